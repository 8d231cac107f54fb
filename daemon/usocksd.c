/* SPDX-License-Identifier: MIT */
#include "daemon/daemon.h"

int main(int argc, char **argv)
{
	static const struct daemon_program program = {
		.conf = &conf_usocks,
		.inbound = &inbound_socks,
		.flags = usocksd_flags,
		.summary = "A SOCKS server.",
	};

	return daemon_main(&program, argc, argv);
}
