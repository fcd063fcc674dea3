"""What the foreign suites share: a broker to run them against, and a table of what came of each test."""

import argparse
import concurrent.futures
import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from suite import broker as brokers
from suite import clients as found

OK, SKIPPED, DIFFERS, FAILED = "ok", "skip", "differs", "FAIL"


def parser(about):
    options = argparse.ArgumentParser(description=about)
    options.add_argument("--nodes", type=int, default=1, help="more than one: a local cluster of as many")
    options.add_argument("--servers", help="a broker that runs already, instead of $STRATALOG")
    options.add_argument(
        "--apache", action="store_true", help="Apache Kafka itself instead of $STRATALOG; with --servers: that is what runs there"
    )
    options.add_argument("--keep", action="store_true", help="leave the data and the log of the broker where they are")
    return options


@contextlib.contextmanager
def broker(args, prefix):
    """A broker as it was asked for, with a folder for whoever works with it."""
    work = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    started = None
    try:
        if args.servers:
            started = brokers.given(args.servers)
        elif args.apache:
            with found.alone():
                java = found.apache()
            started = brokers.apache(java, work)
        else:
            binary = brokers.binary_of(found.ROOT)
            started = brokers.cluster(binary, work, args.nodes) if args.nodes > 1 else brokers.single(binary, work)
        print(f"{started.name}: {started.servers}; {work}; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC", flush=True)
        yield started, work
        if not started.is_alive():
            sys.exit(f"the broker ended:\n{started.log.read_text(errors='replace')[-4000:]}")
    finally:
        if started:
            started.close()
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)


def installed(install):
    """What `install` makes; ends well, with the reason, where a toolchain is missing."""
    try:
        with found.alone():
            return install()
    except found.Missing as why:
        print(f"skipped: {why}")
        sys.exit(0)
    except found.Failed as why:
        sys.exit(f"it is not installed: {why}")


class Results:
    """`differences` names tests that cannot pass here, with why and what they then say (a regular expression); with Apache Kafka, none."""

    def __init__(self, differences):
        self.differences, self.rows, self.words = differences, [], {}

    def add(self, test, outcome, seconds, why="", said=""):
        reason, words = self.differences.get(test, (None, None))
        if outcome == FAILED and reason and re.search(words, said):
            outcome, why = DIFFERS, reason
        elif outcome == OK and reason:
            outcome, why = FAILED, f"it passes, and is said not to: {reason}"
        self.rows.append((test, outcome, seconds, why))
        if outcome == FAILED:
            self.words[test] = said
        print(f"   {test:64} {outcome:8} {seconds:4.0f} s  {why}".rstrip(), flush=True)

    def show(self):
        """Ends the process as the tests ended."""
        counts = {outcome: sum(row[1] == outcome for row in self.rows) for outcome in (OK, DIFFERS, SKIPPED, FAILED)}
        for test, said in self.words.items():
            print(f"\n== {test}\n{said[-3000:]}")
        print(f"\n{len(self.rows)} tests: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        sys.exit(1 if counts[FAILED] or not counts[OK] else 0)


def ran(words, patience, **more):
    """The code that a command ended with, None after so many seconds; all that it said; how long it took."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=patience,
            **more,
        )
        code, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as slow:
        code, said = None, (slow.stdout or b"").decode(errors="replace") + f"\nit did not end within {patience} s"
    return code, said, time.monotonic() - began


def each(things, do, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(do, thing) for thing in things]:
            future.result()
