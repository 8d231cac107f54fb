# SPDX-License-Identifier: MIT
"""Command lines, exit codes, and the samples that come with the programs."""
import lab

DAEMONS = ("transocksd", "usocksd")
PROGRAMS = (*DAEMONS, "transocks-rules")

# These processes end before they change their user, so that LeakSanitizer may look at them.
LEAKS = {"ASAN_OPTIONS": "detect_leaks=1"}


class Programs(lab.TestCase):
    def setUp(self):
        self.t = self.build("host")

    def run_program(self, program, *args, config=None):
        if config is not None:
            path = lab.WORK / "config.toml"
            path.write_text(config)
            args = ("-f", path, *args)
        return self.t.host.run(lab.BUILD / program, *args, check=False, env=LEAKS)

    def fails(self, program, code, pattern, *args, config=None):
        """Exit code, nothing on standard output, one line on standard error."""
        done = self.run_program(program, *args, config=config)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(f"{program}: "), done.stderr)

    def test_help_and_version(self):
        for program in PROGRAMS:
            done = self.run_program(program, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(f"sage: {program}", done.stdout)
            done = self.run_program(program, "--version")
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stdout, rf"^{program} \d+\.\d+\.\d+\n$")

    def test_usage_errors(self):
        for program in PROGRAMS:
            self.fails(program, 64, 'nonsense"?; --help lists (all|them)$', "--nonsense")
        for program in DAEMONS:
            self.fails(program, 64, "word", "word")
            self.fails(program, 64, "-f", "-f")
            self.fails(program, 64, "log.level", "-loglevel", "loud", config='proxy_url = "direct://"\n'
                       if program == "transocksd" else "")
        self.fails("transocks-rules", 64, 'did you mean "install"', "instal")

    def test_samples(self):
        samples = sorted((lab.ROOT / "etc").glob("*.toml"))
        self.assertEqual({s.name for s in samples}, {"transocks.toml", "usocksd.toml"})
        for sample in samples:
            program = "transocksd" if sample.stem == "transocks" else "usocksd"
            done = self.run_program(program, "-f", sample, "--check")
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_dump_config_can_be_read_again(self):
        for program, config in (("transocksd", 'proxy_url = "socks5://u:p@10.1.1.1:1080"\n'),
                                ("usocksd", "")):
            first = self.run_program(program, "--dump-config", config=config)
            self.assertEqual(first.returncode, 0, first.stderr)
            second = self.run_program(program, "--dump-config", config=first.stdout)
            self.assertEqual((second.returncode, second.stdout), (0, first.stdout), second.stderr)

    def test_configuration_errors(self):
        direct = 'proxy_url = "direct://"\n'
        for program, config, pattern in (
                ("transocksd", "", "proxy_url"),
                ("transocksd", "proxy_url = \n", r"config\.toml:1\b"),
                ("transocksd", direct + "\nlisen = 1\n", r'config\.toml:3\b.*lisen.*"listen"'),
                ("transocksd", direct + "[timeouts]\nconect = 1\n",
                 r'config\.toml:3\b.*"timeouts\.connect"'),
                ("transocksd", direct + 'workers = "two"\n', r"config\.toml:2\b.*workers"),
                ("transocksd", direct + "workers = -1\n", r"config\.toml:2\b.*workers.*range"),
                ("transocksd", 'proxy_url = "ftp://x:1"\n', r"config\.toml:1\b.*proxy_url"),
                ("transocksd", direct + '[log]\nlevel = "loud"\n', r"config\.toml:3\b.*log\.level"),
                ("usocksd", "[incoming]\nport = 70000\n", r"config\.toml:2\b.*incoming\.port"),
                ("usocksd", '[incoming]\naddresses = ["nowhere"]\n',
                 r"config\.toml:2\b.*incoming\.addresses")):
            with self.subTest(config=config):
                for flags in ((), ("--check",)):
                    self.fails(program, 78, pattern, *flags, config=config)

    def test_missing_file(self):
        for program in DAEMONS:
            self.fails(program, 78, "/nonexistent.toml", "-f", "/nonexistent.toml")

    def test_default_files(self):
        """transocksd needs its file, usocksd does not; drop-ins are read after it, by name."""
        self.fails("transocksd", 78, "/etc/transocks.toml", "--check")
        self.assertEqual(self.run_program("usocksd", "--check").returncode, 0)
        etc = lab.pathlib.Path("/etc")
        (etc / "transocks.toml").write_text('proxy_url = "direct://"\nworkers = 1\n')
        (etc / "transocks.d").mkdir()
        (etc / "transocks.d" / "20.toml").write_text("workers = 3\n")
        (etc / "transocks.d" / "10.toml").write_text("workers = 2\n")
        (etc / "transocks.d" / "30.conf").write_text("nonsense\n")
        self.addCleanup(lab.shutil.rmtree, etc / "transocks.d")
        self.addCleanup((etc / "transocks.toml").unlink)
        self.assertIn("workers = 3", self.run_program("transocksd", "--dump-config").stdout)

    def test_port_taken(self):
        with self.t.host.listen("127.0.0.1", 1081), self.t.host.listen("127.0.0.1", 1080):
            user = f'user = "{lab.DAEMON_USER}"\n'
            self.fails("transocksd", 69, "127.0.0.1:1081",
                       config=user + 'proxy_url = "direct://"\n')
            self.fails("usocksd", 69, "127.0.0.1:1080", config=user)

    def test_address_that_is_not_ours(self):
        config = f'user = "{lab.DAEMON_USER}"\nlisten = "11.1.1.1:1081"\nproxy_url = "direct://"\n'
        self.fails("transocksd", 69, "11.1.1.1:1081", config=config)
        # The second of two, when there is a good deal to give back.
        config = config.replace('"11', '["127.0.0.1:1081", "11').replace('1081"\np', '1081"]\np')
        self.fails("transocksd", 69, "11.1.1.1:1081", config="workers = 3\n" + config)

    def test_start_that_fails(self):
        config = 'proxy_url = "direct://"\n'
        user = f'user = "{lab.DAEMON_USER}"\n'
        self.fails("transocksd", 77, "nobody-of-that-name",
                   config=config + 'user = "nobody-of-that-name"\n')
        self.fails("transocksd", 78, "/nonexistent/log",
                   config=user + config + '[log]\nfilename = "/nonexistent/log"\n')
        self.fails("transocksd", 78, "max_flows",
                   config=user + config + "[limits]\nmax_flows = 1000000\n")

    def test_host_without_ipv6(self):
        self.t.host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        self.t.host.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
        daemon = self.t.host.transocksd('proxy_url = "direct://"\n')
        daemon.wait_log("::1")
        self.assertTrue(self.t.host.listening(1081, "127.0.0.1"))


if __name__ == "__main__":
    lab.main()
