#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sudo make demo: the main job, shown on three machines that are only network namespaces.
#
# The second half of this script runs in mount, pid and network namespaces of its own. When it ends,
# the kernel takes the namespaces and every process in them away; the machine's network, rules, users
# and /run are never touched.
set -eu

cd "$(dirname "$0")/../.."
bin=build

outside() {
	if [ "$(id -u)" -ne 0 ]; then
		echo "the demo makes network namespaces and needs root: sudo make demo" >&2
		exit 77
	fi
	etc/demo/deps.sh
	make --no-print-directory BUILD="$bin" -j"$(nproc)" all
	[ -z "${SUDO_UID-}" ] || chown -R "$SUDO_UID:${SUDO_GID-$SUDO_UID}" "$bin"
	# unshare itself is deaf to signals; its death takes all the rest with it.
	unshare --net --mount --pid --fork --kill-child --mount-proc etc/demo/demo.sh inside &
	child=$!
	trap 'kill -KILL "$child" 2>/dev/null; exit 1' HUP INT TERM
	wait "$child"
}

bold=
plain=
if [ -t 1 ]; then
	bold=$(printf '\033[1m')
	plain=$(printf '\033[0m')
fi

say() {
	printf '\n'
	printf '%s\n' "$@"
}

# Shows a command and runs it.
show() {
	printf '\n%s# %s%s\n' "$bold" "$*" "$plain"
	"$@"
}

# Shows a file as it is written.
write() {
	printf '\n%s# cat > %s%s\n' "$bold" "$1" "$plain"
	tee "$1"
}

on() {
	machine=$1
	shift
	ip netns exec "$machine" "$@"
}

# The same for what runs in the background: $! is the program itself then.
start_on() {
	machine=$1
	shift
	exec ip netns exec "$machine" "$@"
}

die() {
	printf '\nthe demo failed: %s\n' "$*" >&2
	for log in /run/*.log; do
		[ -e "$log" ] && printf -- '--- %s\n' "$log" >&2 && tail -n 20 "$log" >&2
	done
	exit 1
}

# Waits until somebody listens there.
wait_port() {
	tries=0
	until on "$1" ss -Hltn "sport = :$2" | grep -q .; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || die "nobody listens on port $2 of the $1"
		sleep 0.05
	done
}

# Waits until a log has that many lines that match.
wait_lines() {
	tries=0
	until [ "$(grep -c "$2" "$1")" -ge "$3" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || die "no line with $2 in $1"
		sleep 0.05
	done
}

# /run is empty and ours, and the system user exists in our view of /etc/passwd only.
private_files() {
	mount -t tmpfs -o mode=755 tmpfs /run
	if ! getent passwd transocks >/dev/null; then
		cp /etc/passwd /etc/group /run
		echo 'transocks:x:64321:64321::/nonexistent:/usr/sbin/nologin' >>/run/passwd
		echo 'transocks:x:64321:' >>/run/group
		mount --bind /run/passwd /etc/passwd
		mount --bind /run/group /etc/group
	fi
}

machines() {
	for machine in client gateway internet; do
		ip netns add "$machine"
		on "$machine" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
		ip -n "$machine" link set lo up
	done
	ip -n client link add eth0 type veth peer name lan0 netns gateway
	ip -n gateway link add wan0 type veth peer name eth0 netns internet
	ip -n client link set eth0 up
	ip -n client address add 10.91.1.2/24 dev eth0
	ip -n client address add fd91:0:1::2/64 dev eth0 nodad
	ip -n gateway link set lan0 up
	ip -n gateway address add 10.91.1.1/24 dev lan0
	ip -n gateway address add fd91:0:1::1/64 dev lan0 nodad
	ip -n gateway link set wan0 up
	ip -n gateway address add 11.0.255.1/24 dev wan0
	ip -n gateway address add 2a00:1:0:ff::1/64 dev wan0 nodad
	ip -n internet link set eth0 up
	ip -n internet address add 11.0.255.2/24 dev eth0
	ip -n internet address add 2a00:1:0:ff::2/64 dev eth0 nodad
	ip -n internet address add 11.0.0.1/32 dev lo
	ip -n internet address add 2a00:1::1/128 dev lo nodad
	ip -n client route add default via 10.91.1.1
	ip -n client route add default via fd91:0:1::1
	ip -n gateway route add default via 11.0.255.2
	ip -n gateway route add default via 2a00:1:0:ff::2
	start_on internet /usr/bin/python3 -B tests/e2e/peers.py http :: 80 >/run/web.log 2>&1 &
	wait_port internet 80
}

inside() {
	exec 2>&1 </dev/null
	private_files
	machines
	say "${bold}1. Three machines.$plain" \
		"A client with private addresses, a gateway, and a web server on \"the Internet\":" \
		"" \
		"    client                  gateway                      internet" \
		"    10.91.1.2  ----  lan0 10.91.1.1                      11.0.0.1" \
		"    fd91:0:1::2      fd91:0:1::1   wan0 11.0.255.1  ---- 2a00:1::1" \
		"                                   2a00:1:0:ff::1" \
		"" \
		"\"on MACHINE COMMAND\" below is short for \"ip netns exec MACHINE COMMAND\"." \
		"The gateway neither forwards packets nor does NAT. So the client gets nowhere:"
	show on client curl -sS -m 1 http://11.0.0.1/ && die "the client was not to get through"

	say "${bold}2. The way out.$plain" \
		"usocksd is the SOCKS5 server, with its defaults: port 1080 of the gateway's loopback." \
		"transocksd takes redirected connections on port 1081 and carries them to usocksd." \
		"Both start as root, bind their port and become the user transocks."
	write /run/usocksd.toml <<-'END'
		[log]
		level = "info"
	END
	write /run/transocks.toml <<-'END'
		listen = ":1081"
		proxy_url = "socks5://127.0.0.1:1080"

		[[rule]]
		domains = [".ads.example"]
		unknown_name = "skip"
		action = "refuse"
	END
	start_on gateway "$bin/usocksd" -f /run/usocksd.toml >/run/usocksd.log 2>&1 &
	usocksd=$!
	start_on gateway "$bin/transocksd" -f /run/transocks.toml >/run/transocksd.log 2>&1 &
	transocksd=$!
	wait_port gateway 1080
	wait_port gateway 1081
	show on gateway ps -o user:10,pid,args -p "$usocksd,$transocksd"

	say "${bold}3. The rules.$plain" \
		"They send what comes in at lan0, and what the gateway itself opens, to transocksd;" \
		"never the daemons' own connections, and never private or special addresses."
	show on gateway "$bin/transocks-rules" install --gateway lan0

	say "${bold}4. The client gets through, by IPv4 and IPv6,$plain" \
		"with a plain curl that knows of no proxy. The server sees the gateway's addresses:"
	show on client curl -sS -m 5 http://11.0.0.1/ || die "no page by IPv4"
	show on client curl -sS -m 5 'http://[2a00:1::1]/' || die "no page by IPv6"

	say "${bold}5. The rule refuses a name,$plain at the same address, before anything is dialled:"
	show on client curl -sS -m 5 --resolve www.ads.example:80:11.0.0.1 http://www.ads.example/ &&
		die "the rule was to refuse it"
	show "$bin/transocksd" -f /run/transocks.toml --explain \
		'client=10.91.1.2 dest=11.0.0.1:80 name=www.ads.example'

	wait_lines /run/transocksd.log type=access 3
	say "${bold}6. What the daemons say$plain: one record for each flow, when it has ended."
	show grep type=access /run/transocksd.log
	show grep type=access /run/usocksd.log

	say "${bold}7. What is in the kernel$plain: one table, each rule with its reason and its counter."
	show on gateway nft list table inet transocks

	say "${bold}8. Back to where we were.$plain flush sends new flows direct, and when the redirected" \
		"ones have ended it removes that table and nothing else."
	show on gateway "$bin/transocks-rules" flush
	show on gateway nft list ruleset
	kill "$transocksd" "$usocksd"
	wait "$transocksd" "$usocksd" || true
	say "That was all. The namespaces and everything in them go now. What stays on this machine is" \
		"what was built, in $bin/, and the packages that this needed."
}

case "${1-}" in
'') outside ;;
inside) inside ;;
*)
	echo "usage: $0" >&2
	exit 64
	;;
esac
