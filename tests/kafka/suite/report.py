"""What came of it: a table of clients and what they did, and the words of those that failed."""

import threading

COLUMNS = ("none", "gzip", "snappy", "lz4", "zstd", "idempotent", "consume", "middle", "seek", "offsets", "time", "topics", "configs",
           "del.records", "group", "resume", "mixed", "cooperative", "static", "gr.admin")
OK, FAILED, LACKS, SKIPPED = "ok", "FAIL", "-", "skip"


def shortened(why):
    """The first line and the last; all of it stands below the table."""
    lines = [line for line in why.splitlines() if line.strip()]
    return " … ".join(line[:160] for line in dict.fromkeys([lines[0], lines[-1]]))


class Report:
    def __init__(self):
        self.cells, self.failures, self.skipped, self.notes = {}, [], {}, []
        self.lock = threading.Lock()

    def mark(self, client, column, outcome):
        """A failure stays one, whatever else goes well."""
        assert column in COLUMNS
        with self.lock:
            if self.cells.get((client, column)) != FAILED:
                self.cells[client, column] = outcome

    def fail(self, client, column, why):
        self.mark(client, column, FAILED)
        with self.lock:
            self.failures.append((client, column, str(why)))
            print(f"   FAILED: {client}, {column}: {shortened(str(why))}", flush=True)

    def skip(self, client, why):
        """Nothing of a client is tried."""
        self.skipped[client] = why
        print(f"   skipped: {client}: {why}", flush=True)

    def note(self, text):
        with self.lock:
            self.notes.append(text)

    def table(self, clients):
        used = [column for column in COLUMNS if any(column == of for _, of in self.cells)]
        rows = [["", *used]]
        for client in clients:
            if client in self.skipped:
                rows.append([client] + [SKIPPED] * len(used))
            else:
                rows.append([client] + [self.cells.get((client, column), SKIPPED) for column in used])
        widths = [max(len(row[at]) for row in rows) for at in range(len(used) + 1)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)

    def show(self, clients):
        print("\n" + self.table(clients) + "\n")
        print(f"{OK}: as it should be; {LACKS}: the client does not have it; {SKIPPED}: not tried")
        for client, why in self.skipped.items():
            print(f"skipped: {client}: {why}")
        for note in self.notes:
            print(note)
        for client, column, why in self.failures:
            print(f"\n== {client}, {column}\n{why}")
        print(f"\n{len(self.failures)} failures" if self.failures else "\nall of it worked")
