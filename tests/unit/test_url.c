/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/url.h"

static void test_good(void **state)
{
	static const struct {
		const char *text;
		enum proxy_scheme scheme;
		const char *host;
		uint16_t port;
		int family;
		const char *user, *password, *shown, *whole;
	} cases[] = {
		{"direct://", PROXY_DIRECT, "", 0, AF_UNSPEC, "", "", "direct://", "direct://"},
		{"Direct:///", PROXY_DIRECT, "", 0, AF_UNSPEC, "", "", "direct://", "direct://"},
		{"socks5://proxy.example:1081", PROXY_SOCKS5, "proxy.example", 1081, AF_UNSPEC, "",
		 "", "socks5://proxy.example:1081", "socks5://proxy.example:1081"},
		{"SOCKS5://10.20.30.40", PROXY_SOCKS5, "10.20.30.40", 1080, AF_INET, "", "",
		 "socks5://10.20.30.40:1080", "socks5://10.20.30.40:1080"},
		{"socks5://10.20.30.40:1/", PROXY_SOCKS5, "10.20.30.40", 1, AF_INET, "", "",
		 "socks5://10.20.30.40:1", "socks5://10.20.30.40:1"},
		{"socks5://[2001:db8::1]:65535", PROXY_SOCKS5, "2001:db8::1", 65535, AF_INET6, "",
		 "", "socks5://[2001:db8::1]:65535", "socks5://[2001:db8::1]:65535"},
		{"socks5://[::1]", PROXY_SOCKS5, "::1", 1080, AF_INET6, "", "",
		 "socks5://[::1]:1080", "socks5://[::1]:1080"},
		{"socks5://host.", PROXY_SOCKS5, "host.", 1080, AF_UNSPEC, "", "",
		 "socks5://host.:1080", "socks5://host.:1080"},
		{"socks5://a-b_c.1x:1080", PROXY_SOCKS5, "a-b_c.1x", 1080, AF_UNSPEC, "", "",
		 "socks5://a-b_c.1x:1080", "socks5://a-b_c.1x:1080"},
		{"socks5://u:p@h:1", PROXY_SOCKS5, "h", 1, AF_UNSPEC, "u", "p", "socks5://h:1",
		 "socks5://u:p@h:1"},
		{"socks5://u@h:1", PROXY_SOCKS5, "h", 1, AF_UNSPEC, "u", "", "socks5://h:1",
		 "socks5://u@h:1"},
		{"socks5://u:@h:1", PROXY_SOCKS5, "h", 1, AF_UNSPEC, "u", "", "socks5://h:1",
		 "socks5://u@h:1"},
		{"socks5://u%40x:%2f%3A%25@[::1]:1", PROXY_SOCKS5, "::1", 1, AF_INET6, "u@x", "/:%",
		 "socks5://[::1]:1", "socks5://u%40x:%2F%3A%25@[::1]:1"},
		{"socks5://u:a@b:c@h:1", PROXY_SOCKS5, "h", 1, AF_UNSPEC, "u", "a@b:c",
		 "socks5://h:1", "socks5://u:a%40b%3Ac@h:1"},
		{"Socks4a://h", PROXY_SOCKS4A, "h", 1080, AF_UNSPEC, "", "", "socks4a://h:1080",
		 "socks4a://h:1080"},
		{"socks4a://u%3Ax@[::1]:7", PROXY_SOCKS4A, "::1", 7, AF_INET6, "u:x", "",
		 "socks4a://[::1]:7", "socks4a://u%3Ax@[::1]:7"},
		{"socks4a://u:@h:7", PROXY_SOCKS4A, "h", 7, AF_UNSPEC, "u", "", "socks4a://h:7",
		 "socks4a://u@h:7"},
		{"HTTP://h:3128/", PROXY_HTTP, "h", 3128, AF_UNSPEC, "", "", "http://h:3128",
		 "http://h:3128"},
		{"http://u:a:b@10.0.0.1:80", PROXY_HTTP, "10.0.0.1", 80, AF_INET, "u", "a:b",
		 "http://10.0.0.1:80", "http://u:a%3Ab@10.0.0.1:80"},
		{"socks5://\xc3\xa9@h:1", PROXY_SOCKS5, "h", 1, AF_UNSPEC, "\xc3\xa9", "",
		 "socks5://h:1", "socks5://%C3%A9@h:1"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct proxy_url u, again;
		struct diag d = {0};
		char shown[PROXY_URL_TEXT_MAX];
		struct strbuf whole;

		if (proxy_url_parse(&u, cases[i].text, &d) != 0)
			fail_msg("%s: %s", cases[i].text, d.text);
		assert_int_equal(u.scheme, cases[i].scheme);
		assert_string_equal(u.host, cases[i].host);
		assert_int_equal(u.port, cases[i].port);
		assert_int_equal(u.addr.family, cases[i].family);
		assert_int_equal(u.addr.port, cases[i].family == AF_UNSPEC ? 0 : u.port);
		assert_string_equal(u.user, cases[i].user);
		assert_string_equal(u.password, cases[i].password);
		assert_string_equal(proxy_url_format(&u, shown, sizeof(shown)), cases[i].shown);
		strbuf_init_heap(&whole);
		proxy_url_write(&u, &whole);
		assert_string_equal(whole.data, cases[i].whole);
		assert_int_equal(proxy_url_parse(&again, whole.data, &d), 0);
		assert_memory_equal(&again, &u, sizeof(u));
		strbuf_free(&whole);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *reason; /* a part of it */
	} cases[] = {
		{"", "not a URL"},
		{"socks5", "not a URL"},
		{"socks5:", "not a URL"},
		{"socks5:/", "not a URL"},
		{"://host", "not a URL"},
		{"10.0.0.1:1080", "not a URL"},
		{"host:1080", "not a URL"},
		{" socks5://h", "not a URL"},
		{"so\x1b[2Jcks://h", "the scheme contains bytes"},
		{"https://h:1",
		 "scheme https is not supported (socks5, socks4a, http, direct): there "
		 "is no TLS"},
		{"httpx://h:1", "scheme httpx is not supported (socks5, socks4a, http, direct)"},
		{"socks4://h:1", "scheme socks4 is not supported"},
		{"http://h", "the port is missing"},
		{"http://u:p@[::1]", "the port is missing"},
		{"http://u%3Ax:p@h:1", "cannot have a ':'"},
		{"socks4a://u:p@h", "a user and no password"},
		{"socks5h://h:1", "scheme socks5h is not supported"},
		{"none://", "scheme none is not supported"},
		{"direct://h", "takes no host"},
		{"direct://u@", "takes no host"},
		{"direct://x/", "takes no host"},
		{"socks5://", "the host is missing"},
		{"socks5:///", "the host is missing"},
		{"socks5://:1080", "the host is missing"},
		{"socks5://u:p@", "the host is missing"},
		{"socks5://u:p@:1", "the host is missing"},
		{"socks5://@h:1", "the user name before '@' is empty"},
		{"socks5://:p@h:1", "the user name before '@' is empty"},
		{"socks5://[]:1", "the host is missing"},
		{"socks5://[::1", "']' is missing"},
		{"socks5://[", "']' is missing"},
		{"socks5://[::1]1", "only :PORT may follow"},
		{"socks5://[1.2.3.4]:1", "brackets belong around an IPv6 address"},
		{"socks5://[::ffff:1.2.3.4%eth0]:1", "not an IPv6 address"},
		{"socks5://[host]:1", "not an IPv6 address"},
		{"socks5://::1:1080", "must be written in brackets"},
		{"socks5://2001:db8::1", "must be written in brackets"},
		{"socks5://h:", "the port must be a number 1..65535"},
		{"socks5://h:0", "the port must be a number 1..65535"},
		{"socks5://h:65536", "the port must be a number 1..65535"},
		{"socks5://h:+1", "the port must be a number 1..65535"},
		{"socks5://h:1080x", "the port must be a number 1..65535"},
		{"socks5://h:1000000", "only :PORT may follow, 1..65535"},
		{"socks5://h:1/path", "path, query and fragment"},
		{"socks5://h:1?q", "path, query and fragment"},
		{"socks5://h:1#f", "path, query and fragment"},
		{"socks5://u:a/b@h:1", "path, query and fragment"},
		{"socks5://ho st:1", "neither a domain name nor an IP address"},
		{"socks5://-.\x01:1", "neither a domain name nor an IP address"},
		{"socks5://10.1.2.300:1", "neither a domain name nor an IP address"},
		{"socks5://10.1:1", "neither a domain name nor an IP address"},
		{"socks5://host.7.:1", "neither a domain name nor an IP address"},
		{"socks5://a..b:1", "neither a domain name nor an IP address"},
		{"socks5://.:1", "neither a domain name nor an IP address"},
		{"socks5://b\xc3\xbc"
		 "cher.example:1",
		 "in the form \"xn--...\""},
		{"socks5://u%:p@h:1", "two hexadecimal digits"},
		{"socks5://u%4:p@h:1", "two hexadecimal digits"},
		{"socks5://u:p%zz@h:1", "two hexadecimal digits"},
		{"socks5://u%00:p@h:1", "%00 cannot be part"},
		{"socks5://u :p@h:1", "must be percent-encoded"},
	};
	struct proxy_url u;
	(void)state;

	memset(&u, 0x5a, sizeof(u));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct proxy_url before = u;
		struct diag d = {0};

		assert_int_equal(proxy_url_parse(&u, cases[i].text, &d), -EINVAL);
		if (strstr(d.text, cases[i].reason) == NULL)
			fail_msg("%s: %s", cases[i].text, d.text);
		assert_memory_equal(&u, &before, sizeof(u)); /* written on success only */
	}
}

/* No reason may quote what could be a piece of a password. */
static void test_secret_stays(void **state)
{
	static const char *const cases[] = {
		"socks5://user:hunter2/x@h:1", "socks5://user:hunter2#@h:1",
		"socks5://user:hunter2",       "socks5://user:hunter2%zz@h:1",
		"socks5://user:p@hunter2?",    "direct://user:hunter2@",
		"https://user:hunter2@h:1",    "http://user%3Ahunter2:x@h:1",
		"http://user:hunter2@h",       "socks4a://user:hunter2@h:1",
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct proxy_url u;
		struct diag d = {0};

		assert_int_equal(proxy_url_parse(&u, cases[i], &d), -EINVAL);
		assert_null(strstr(d.text, "hunter2"));
	}
}

static void fill(char *out, const char *head, char c, size_t n, const char *tail)
{
	size_t len = strlen(head);

	memcpy(out, head, len);
	memset(out + len, c, n);
	strcpy(out + len + n, tail);
}

static void test_lengths(void **state)
{
	char text[2048];
	struct proxy_url u;
	(void)state;

	fill(text, "socks5://", 'a', 63, ".b:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), 0);
	fill(text, "socks5://", 'a', 64, ".b:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), -EINVAL);

	fill(text, "socks5://", 'a', 255, ":p@h:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), 0);
	assert_int_equal(strlen(u.user), 255);
	fill(text, "socks5://", 'a', 256, ":p@h:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), -EINVAL);
	fill(text, "socks5://u:", 'a', 255, "@h:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), 0);
	assert_int_equal(strlen(u.password), 255);
	fill(text, "socks5://u:", 'a', 256, "@h:1");
	assert_int_equal(proxy_url_parse(&u, text, NULL), -EINVAL);

	/* 126 labels "a." and a last one: 253 bytes, then 254. */
	strcpy(text, "socks5://");
	for (int i = 0; i < 126; i++)
		strcat(text, "a.");
	strcat(text, "a");
	assert_int_equal(proxy_url_parse(&u, text, NULL), 0);
	assert_int_equal(strlen(u.host), 253);
	strcat(text, "b");
	assert_int_equal(proxy_url_parse(&u, text, NULL), -EINVAL);
}

/* Every beginning of a long URL is either refused or a URL of its own; memory checkers watch. */
static void test_truncated(void **state)
{
	static const char whole[] = "socks5://us%65r:pa%20ss@[2001:db8::1]:1080/";
	int good = 0;
	(void)state;

	for (size_t n = 0; n < sizeof(whole); n++) {
		struct proxy_url u;
		char *text = strndup(whole, n);

		good += proxy_url_parse(&u, text, NULL) == 0;
		free(text);
	}
	/* "...]", "...]:1", ":10", ":108", ":1080", and with the '/'. "socks5://us" is a host. */
	assert_int_equal(good, 6 + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),         cmocka_unit_test(test_bad),
		cmocka_unit_test(test_secret_stays), cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
