/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether a probe would be wrapped into another packet on its way (ip-route(8), "encap"): the kernel does that
 * behind the hook for output, or in front of the one for forwarding, and what holds the probe (cage.h) does not know the
 * new packet. Asks the kernel's routing, sends nothing. One thread, blocking.
 *
 * Source: Linux net/core/lwtunnel.c, net/ipv6/seg6_iptunnel.c, net/mpls/mpls_iptunnel.c.
 */
#include "rulemgr/probe.h"

/* For a probe that has its port. 0; -EPROTO with `d`: its route would wrap it; another negative errno with `d`. */
int encap_check(const struct probe *p, struct diag *d);
