/* SPDX-License-Identifier: MIT */
#include "policy/name.h"

#include <errno.h>
#include <string.h>

#include "policy/utf8.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* '_' is beyond RFC 952, but in use. */
static bool is_name_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
	       c == '_';
}

/* What inet_aton(3) and thereby many resolvers would read as a part of an IPv4 address: a name that
 * ends so is an address in disguise ("2130706433", "0x7f.1"), never a name: no top-level domain is
 * like that. */
static bool is_numeric_label(const char *label, size_t n)
{
	bool hex = n >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X');

	for (size_t i = hex ? 2 : 0; i < n; i++) {
		if (hex ? !is_hex(label[i]) : !is_digit(label[i]))
			return false;
	}
	return true;
}

/* RFC 1035 section 2.3.4. */
static bool label_len_is_valid(size_t n)
{
	return n >= 1 && n <= 63;
}

static bool name_is_valid(const char *bytes, size_t n)
{
	size_t label = 0; /* where the current one begins */

	if (n > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '.') {
			if (!label_len_is_valid(i - label))
				return false;
			label = i + 1;
		} else if (!is_name_char(bytes[i])) {
			return false;
		}
	}
	return label_len_is_valid(n - label) && !is_numeric_label(bytes + label, n - label);
}

int name_normalise(const char *bytes, size_t n, char out[NAME_MAX_LEN + 1], struct addr *addr)
{
	char literal[INET6_ADDRSTRLEN + 2]; /* with brackets */

	if (n < sizeof(literal) && memchr(bytes, '\0', n) == NULL) {
		memcpy(literal, bytes, n);
		literal[n] = '\0';
		if (addr_parse(addr, literal) == 0) {
			out[0] = '\0';
			return 1;
		}
	}
	if (n > 0 && bytes[n - 1] == '.')
		n--;
	if (!name_is_valid(bytes, n))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		out[i] = bytes[i] >= 'A' && bytes[i] <= 'Z' ? (char)(bytes[i] + 32) : bytes[i];
	out[n] = '\0';
	return 0;
}

bool name_is_other_script(const char *bytes, size_t n)
{
	uint32_t code;
	bool other = false;

	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_decode(bytes + i, n - i, &code);
		if (len == 0)
			return false;
		other = other || len > 1;
	}
	return other;
}
