/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What monitoring reads, in the text format of Prometheus, version 0.0.4. Both daemons, and the tables in the manuals,
 * are made from the rows below: each is one metric, whose name begins with the program's. Main thread; what workers count
 * is read without a lock, and so may be a moment apart.
 */
#include "daemon/admin/status.h"

/* clang-format off */
/* `labels` are in the order in which they are written, "le" left out.
 *          daemon      name                        type       labels              help */
#define METRICS_TABLE(ROW) \
	ROW(BOTH,       build_info,                 GAUGE,     "version",          "1, and the version of the program") \
	ROW(BOTH,       start_time_seconds,         GAUGE,     "",                 "when it was started, since 1970") \
	ROW(BOTH,       reload_failed,              GAUGE,     "",                 "1 if the last reload failed") \
	ROW(BOTH,       flows,                      GAUGE,     "",                 "live flows, set-up included") \
	ROW(BOTH,       max_flows,                  GAUGE,     "",                 "how many there may be") \
	ROW(BOTH,       accept_paused,              GAUGE,     "",                 "1 while new connections wait, in one worker at least") \
	ROW(BOTH,       accept_pauses_total,        COUNTER,   "",                 "how often workers stopped to accept at max_flows") \
	ROW(BOTH,       flows_ended_total,          COUNTER,   "end",              "flows that have ended, by how") \
	ROW(BOTH,       bytes_total,                COUNTER,   "direction",        "bytes passed on from clients (up) and to them (down), as they go") \
	ROW(BOTH,       setup_seconds,              HISTOGRAM, "",                 "from accept until the destination was reached") \
	ROW(BOTH,       dial_seconds,               HISTOGRAM, "result",           "to connect, all addresses of a name together") \
	ROW(BOTH,       dns_queries_total,          COUNTER,   "from",             "names asked for, of one family, by where the answer came from") \
	ROW(BOTH,       dns_seconds,                HISTOGRAM, "result",           "until name servers answered") \
	ROW(BOTH,       worker_status,              GAUGE,     "worker, number",   "the numbers of each worker in --status") \
	ROW(BOTH,       proxy_inflight_requests,    GAUGE,     "",                 "live flows whose destination was reached") \
	ROW(BOTH,       proxy_elapsed_seconds,      HISTOGRAM, "result",           "how long they lasted from there") \
	ROW(BOTH,       proxy_tx_bytes,             HISTOGRAM, "",                 "bytes from the client, at the end of a flow") \
	ROW(BOTH,       proxy_rx_bytes,             HISTOGRAM, "",                 "bytes to the client, at the end of a flow") \
	ROW(BOTH,       proxy_tx_seconds,           HISTOGRAM, "",                 "until the client's end of stream was passed on") \
	ROW(BOTH,       proxy_rx_seconds,           HISTOGRAM, "",                 "until the destination's end of stream was passed on") \
	ROW(BOTH,       proxy_tx_errors_total,      COUNTER,   "",                 "flows that ended before that of the client") \
	ROW(BOTH,       proxy_rx_errors_total,      COUNTER,   "",                 "flows that ended before that of the destination") \
	ROW(USOCKSD,    connections_total,          COUNTER,   "version, status",  "connections by what became of their request") \
	ROW(USOCKSD,    requests_total,             COUNTER,   "command",          "requests that came complete") \
	ROW(USOCKSD,    socks5_auth_negotiated_total, COUNTER, "type, result",     "SOCKS5 clients by how they were let in, or not") \
	ROW(USOCKSD,    socks5_address_read_total,  COUNTER,   "type, result",     "SOCKS5 requests by their kind of address") \
	ROW(USOCKSD,    acl_refused_total,          COUNTER,   "rule",             "flows refused by access control, by the option that did") \
	ROW(USOCKSD,    logins,                     GAUGE,     "state",            "logins that wait to be checked, or are being checked (running)") \
	ROW(USOCKSD,    logins_checked_total,       COUNTER,   "",                 "logins that have been checked, or are") \
	ROW(USOCKSD,    logins_refused_total,       COUNTER,   "",                 "logins that failed because too many waited") \
	ROW(USOCKSD,    udp_associations,           GAUGE,     "",                 "live UDP associations") \
	ROW(USOCKSD,    udp_dropped_total,          COUNTER,   "reason",           "datagrams dropped, by why they were") \
	ROW(USOCKSD,    egress_state,               GAUGE,     "address, state",   "1 for the state of an own address") \
	ROW(USOCKSD,    egress_listed,              GAUGE,     "address",          "1 while it is on the DNS blocklist") \
	ROW(USOCKSD,    egress_flows,               GAUGE,     "address",          "live flows from it") \
	ROW(USOCKSD,    egress_connects_total,      COUNTER,   "address",          "connections that were made from it") \
	ROW(USOCKSD,    egress_failed_total,        COUNTER,   "address",          "destinations that could not be connected to") \
	ROW(USOCKSD,    egress_failed_binds_total,  COUNTER,   "address",          "attempts to use it while it was not of this host") \
	ROW(USOCKSD,    egress_bytes_total,         COUNTER,   "address, direction", "bytes passed on over it, by flows that have ended") \
	ROW(TRANSOCKSD, rule_decided_total,         COUNTER,   "rule, action",     "flows that a rule decided on, since this configuration was loaded") \
	ROW(TRANSOCKSD, rule_observed_total,        COUNTER,   "rule, action",     "flows that a rule with observe would have") \
	ROW(TRANSOCKSD, rule_none_total,            COUNTER,   "",                 "flows that no rule matched") \
	ROW(TRANSOCKSD, upstream_state,             GAUGE,     "upstream, state",  "1 for the state of an upstream") \
	ROW(TRANSOCKSD, upstream_share,             GAUGE,     "upstream",         "share of its usual flows that it gets, 0 to 1") \
	ROW(TRANSOCKSD, upstream_flows,             GAUGE,     "upstream",         "live flows") \
	ROW(TRANSOCKSD, upstream_warm,              GAUGE,     "upstream",         "connections kept ready") \
	ROW(TRANSOCKSD, upstream_connects_total,    COUNTER,   "upstream",         "connections that were made") \
	ROW(TRANSOCKSD, upstream_failures_total,    COUNTER,   "upstream, phase",  "attempts that failed") \
	ROW(TRANSOCKSD, upstream_replies_total,     COUNTER,   "upstream, reply",  "requests by what became of them") \
	ROW(TRANSOCKSD, upstream_ports,             GAUGE,     "upstream, source", "ports in use of an address of ours towards it") \
	ROW(TRANSOCKSD, upstream_max_ports,         GAUGE,     "",                 "how many of them there are for one address")
/* clang-format on */

/* Appends all that there is for the daemon. */
void metrics_text(const struct status *st, struct strbuf *out);
