/* SPDX-License-Identifier: MIT */
#include "daemon/daemon.h"

int main(int argc, char **argv)
{
	static const struct daemon_program program = {
		.conf = &conf_transocks,
		.inbound = &inbound_redirect,
		.flags = transocksd_flags,
		.summary = "Carries TCP flows that netfilter redirects to it, by rule: through "
			   "upstream\n"
			   "proxies, directly, or not at all.",
	};

	return daemon_main(&program, argc, argv);
}
