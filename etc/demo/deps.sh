#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs what Debian 12 lacks for building and for the demo; with --test also for `make check`.
# Root. Does nothing where all of it is there. No package may start a service meanwhile.
set -eu

build='gcc g++ make pkg-config libmnl-dev libnftnl-dev libnetfilter-conntrack-dev libc-ares-dev
	libtomlplusplus-dev libcap-ng-dev libxxhash-dev libcrypt-dev libmicrohttpd-dev'
demo='iproute2 nftables curl python3 procps util-linux'
check='clang clang-format libclang-rt-14-dev libcmocka-dev mandoc iptables microsocks dante-server redsocks haproxy
	squid tinyproxy openssl vsftpd
	connect-proxy dante-client ncat netcat-openbsd openssh-client openssh-server proxychains4 python3-socks socat torsocks
	tnftp tsocks'

packages="$build $demo"
case "${1-}" in
--test) packages="$packages $check" ;;
'') ;;
*)
	echo "usage: $0 [--test]" >&2
	exit 64
	;;
esac

missing=
for package in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "these packages are missing:$missing" >&2
	echo "run as root: $0 $*" >&2
	exit 77
fi

# dante-server and others start a service when they are installed; this forbids it for the duration.
policy=/usr/sbin/policy-rc.d
saved=
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved=$(mktemp -u "$policy.XXXXXX")
fi
restore() {
	rm -f "$policy"
	[ -z "$saved" ] || mv "$saved" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
[ -z "$saved" ] || mv "$policy" "$saved"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=120 update </dev/null
# $missing is a list of words.
# shellcheck disable=SC2086
apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends $missing </dev/null
