/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <sys/utsname.h>
#include <time.h>

#include "tests/unit/log_files.h"

#define TIME "2026-01-02T03:04:05.123456Z"

/* Replaces whatever looks like our time by TIME. */
static void mask_time(char *text)
{
	size_t len = sizeof(TIME) - 1;

	for (; strlen(text) >= len; text++) {
		size_t i = 0;

		while (i < len &&
		       (isdigit((unsigned char)TIME[i]) ? isdigit((unsigned char)text[i]) != 0
							: text[i] == TIME[i]))
			i++;
		if (i == len)
			memcpy(text, TIME, len);
	}
}

static void log_sample(void)
{
	struct addr a;
	struct log_line l;

	assert_int_equal(addr_parse_endpoint(&a, "[2001:db8::1]:80"), 0);
	assert_true(log_begin(&l, LOG_LEVEL_INFO, "flow ends"));
	log_add(&l, "why", "done");
	log_add(&l, "error", "no route to host");
	log_add(&l, "empty", "");
	log_add(&l, "bad", "a\"b\\c\r\n\x1b\xff");
	log_add(&l, "eq", "a=b");
	log_add_addr(&l, "client", &a);
	log_add_uint(&l, "up", UINT64_MAX);
	log_add_elapsed(&l, "elapsed", 61007);
	log_end(&l);
}

static void test_formats(void **state)
{
	struct utsname host;
	static const struct {
		enum log_format format;
		const char *want; /* %s: the host */
	} cases[] = {
		{LOG_FORMAT_PLAIN,
		 TIME " %s prog info: \"flow ends\" why=done error=\"no route to host\" empty=\"\" "
		      "bad=\"a\\\"b\\\\c\\u000d\\n\\u001b\\u00ff\" eq=\"a=b\" "
		      "client=[2001:db8::1]:80 up=18446744073709551615 elapsed=61.007\n"},
		{LOG_FORMAT_LOGFMT,
		 "topic=prog logged_at=" TIME " severity=info utsname=%s message=\"flow ends\" "
		 "why=done error=\"no route to host\" empty=\"\" "
		 "bad=\"a\\\"b\\\\c\\u000d\\n\\u001b\\u00ff\" eq=\"a=b\" "
		 "client=[2001:db8::1]:80 up=18446744073709551615 elapsed=61.007\n"},
		{LOG_FORMAT_JSON,
		 "{\"topic\":\"prog\",\"logged_at\":\"" TIME "\",\"severity\":\"info\","
		 "\"utsname\":\"%s\",\"message\":\"flow ends\",\"why\":\"done\","
		 "\"error\":\"no route to host\",\"empty\":\"\","
		 "\"bad\":\"a\\\"b\\\\c\\u000d\\n\\u001b\\u00ff\",\"eq\":\"a=b\","
		 "\"client\":\"[2001:db8::1]:80\",\"up\":18446744073709551615,"
		 "\"elapsed\":61.007}\n"},
	};

	(void)state;
	assert_int_equal(uname(&host), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct strbuf want;
		const char *hole = strstr(cases[i].want, "%s");
		char *got;
		size_t len;

		unlink(path_of("formats"));
		configure(path_of("formats"), LOG_LEVEL_INFO, cases[i].format);
		log_sample();
		log_stop();
		got = slurp_file("formats", &len);
		mask_time(got);
		strbuf_init_heap(&want);
		strbuf_put(&want, cases[i].want, (size_t)(hole - cases[i].want));
		strbuf_puts(&want, host.nodename);
		strbuf_puts(&want, hole + 2);
		assert_string_equal(got, want.data);
		strbuf_free(&want);
		free(got);
	}
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

/* Also across the end of a second, whose text is kept. */
static void test_time_is_now(void **state)
{
	(void)state;
	for (int i = 0; i < 15; i++) {
		struct tm tm = {.tm_sec = 0};
		int64_t before, after, got;
		const char *fraction;
		char *text;
		size_t len;

		unlink(path_of("time"));
		configure(path_of("time"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
		before = now_us();
		log_text(LOG_LEVEL_INFO, "x");
		after = now_us();
		log_stop();
		text = slurp_file("time", &len);
		fraction = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
		assert_non_null(fraction);
		assert_int_equal(fraction[7], 'Z');
		got = timegm(&tm) * INT64_C(1000000) + strtol(fraction + 1, NULL, 10);
		assert_true(got >= before && got <= after);
		free(text);
		usleep(73111);
	}
}

static void test_levels(void **state)
{
	struct log_line l;
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("levels"));
	configure(path_of("levels"), LOG_LEVEL_WARNING, LOG_FORMAT_PLAIN);
	assert_true(log_enabled(LOG_LEVEL_CRITICAL));
	assert_true(log_enabled(LOG_LEVEL_WARNING));
	assert_false(log_enabled(LOG_LEVEL_INFO));
	assert_false(log_begin(&l, LOG_LEVEL_INFO, "not this"));
	log_text(LOG_LEVEL_DEBUG, "nor %s", "this");
	log_text(LOG_LEVEL_CRITICAL, "number %d,\nforged line", 7);
	log_stop();
	text = slurp_file("levels", &len);
	assert_non_null(strstr(text, " prog critical: \"number 7,\\nforged line\"\n"));
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
	free(text);
}

/* ---- a line that is too long ---- */

/* What follows a JSON string at `p`, or NULL. */
static const char *json_skip_string(const char *p)
{
	if (*p++ != '"')
		return NULL;
	for (; *p != '"'; p++) {
		if (*p < ' ' || *p > '~')
			return NULL;
		if (*p != '\\')
			continue;
		p++;
		if (*p == 'u') {
			for (int i = 0; i < 4; i++) {
				if (!isxdigit((unsigned char)*++p))
					return NULL;
			}
		} else if (*p == '\0' || strchr("\"\\n", *p) == NULL) {
			return NULL;
		}
	}
	return p + 1;
}

/* One flat object and a line feed. */
static bool json_line_is_valid(const char *p)
{
	do {
		if (*p != '{' && *p != ',')
			return false;
		p = json_skip_string(p + 1);
		if (p == NULL || *p++ != ':')
			return false;
		if (*p == '"')
			p = json_skip_string(p);
		else if (strncmp(p, "true", 4) == 0)
			p += 4;
		else if (isdigit((unsigned char)*p))
			p += strspn(p, "0123456789.");
		else
			return false;
		if (p == NULL)
			return false;
	} while (*p == ',');
	return strcmp(p, "}\n") == 0;
}

/* Quotes are balanced, nothing is left open. */
static bool text_line_is_valid(const char *p)
{
	for (; *p != '\0' && *p != '\n'; p++) {
		if (*p != '"')
			continue;
		p = json_skip_string(p);
		if (p == NULL)
			return false;
		p--;
	}
	return strcmp(p, "\n") == 0;
}

/* A value that was cut leaves no room for the fields behind it, so these five tell. */
static bool has_all(const char *text, const char *const words[5])
{
	for (int i = 0; i < 5; i++) {
		if (strstr(text, words[i]) == NULL)
			return false;
	}
	return true;
}

static void check_truncated(enum log_format format, const char *text, bool truncated)
{
	bool json = format == LOG_FORMAT_JSON;
	const char *ending = json ? ",\"truncated\":true}\n" : " truncated=true\n";

	assert_true(strlen(text) < LOG_LINE_MAX);
	assert_true(json ? json_line_is_valid(text) : text_line_is_valid(text));
	assert_int_equal(strstr(text, ending) != NULL, truncated);
}

static void test_truncation(void **state)
{
	static const char fill[] = {'x', ' ', '\x1b', '"'};
	static char value[3000];

	(void)state;
	for (size_t i = 0; i < 3 * ARRAY_LEN(fill) * 2; i++) {
		enum log_format format = (enum log_format)(i % 3);
		bool in_message = i / 12 != 0;

		memset(value, fill[i / 3 % 4], sizeof(value) - 1);
		for (size_t n = 200; n<sizeof(value); n += n> 1700 && n < 2060 ? 1 : 97) {
			struct log_line l;
			char end = value[n];
			char *text;
			size_t len;

			unlink(path_of("long"));
			configure(path_of("long"), LOG_LEVEL_INFO, format);
			value[n] = '\0';
			assert_true(log_begin(&l, LOG_LEVEL_INFO, in_message ? value : "m"));
			log_add(&l, "short", "1");
			log_add(&l, "long", in_message ? "" : value);
			log_add_uint(&l, "up", 12345);
			log_add_elapsed(&l, "elapsed", 12345);
			log_add(&l, "last", "value");
			log_end(&l);
			value[n] = end;
			log_stop();
			text = slurp_file("long", &len);
			check_truncated(
				format, text,
				!has_all(text, (const char *const[]){"short", "long", "12345",
								     "elapsed", "value"}));
			/* Cut as late as possible. */
			if (n > 2000)
				assert_true(strlen(text) > LOG_LINE_MAX - 40);
			free(text);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_time_is_now),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_truncation),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
