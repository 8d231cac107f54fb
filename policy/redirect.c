/* SPDX-License-Identifier: MIT */
#include "policy/redirect.h"

const char *const redirect_mode_words[] = {"redirect", "tproxy", NULL};
const char *const redirect_backend_words[] = {"auto", "nft", "iptables", NULL};
const char *const redirect_family_words[] = {"both", "ipv4", "ipv6", NULL};
const char *const redirect_quic_words[] = {"pass", "reject", NULL};
const char *const redirect_down_words[] = {"closed", "open", NULL};
