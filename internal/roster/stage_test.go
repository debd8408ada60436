package roster

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
)

// generated is a file of rows that exist only while they are read.
type generated struct {
	row  func(i int) string
	rows int
	i    int
	rest []byte
}

func (g *generated) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		if g.i == g.rows {
			return 0, io.EOF
		}
		g.rest = []byte(g.row(g.i))
		g.i++
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// TestReadingKeepsNoRows: memory does not grow with the file, also when every
// row is wrong.
func TestReadingKeepsNoRows(t *testing.T) {
	const rows, limit = 200_000, 4 << 20 // the rows are some 20 MiB
	clients := kindOf(Clients)
	csv := func(email string) func(i int) string {
		return func(i int) string {
			if i == 0 {
				return "id,practice,first_name,last_name,email,assigned,status\n"
			}
			return fmt.Sprintf("client-%d,practice-1,Client,Number %d,client-%d%sexample.com,practitioner-1,active\n", i, i, i, email)
		}
	}
	ndjson := func(i int) string {
		return fmt.Sprintf(`{"id": "client-%d", "practice": "practice-1", "first_name": "Client", "last_name": "Number %d"}`+"\n", i, i)
	}
	for _, test := range []struct {
		name   string
		row    func(i int) string
		ndjson bool
		faults int
	}{
		{"CSV", csv("@"), false, 0},
		{"CSV with faults", csv(" at "), false, rows - 1},
		{"NDJSON", ndjson, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			input := &generated{row: test.row, rows: rows}
			s := &source{ctx: t.Context(), kind: clients, faults: &faults{}, values: make([]any, 3+len(clients.columns))}
			if test.ndjson {
				s.reader = newNDJSON(input, clients)
			} else {
				reader, err := newCSV(input, clients)
				if err != nil {
					t.Fatal(err)
				}
				s.reader = reader
			}
			first, most := uint64(0), uint64(0)
			s.progress = func(n int64, _ bool) {
				if n%(5*progressEvery) != 0 {
					return
				}
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if first == 0 {
					first = m.HeapAlloc
				}
				most = max(most, m.HeapAlloc)
			}
			for s.Next() {
			}
			if s.Err() != nil || s.cut != nil {
				t.Fatal(s.Err(), s.cut)
			}
			if s.rows < rows-1 || s.faults.count != test.faults {
				t.Errorf("%d rows, %d faults, want %d faults", s.rows, s.faults.count, test.faults)
			}
			if most > first+limit {
				t.Errorf("memory grows from %d to %d bytes", first, most)
			}
		})
	}
}

// TestCSVAsSpreadsheetsWriteIt: with a byte order mark, CRLF, blanks around the
// names of columns, and fields over several lines.
func TestCSVAsSpreadsheetsWriteIt(t *testing.T) {
	r, err := newCSV(strings.NewReader("\ufeffid, name\r\np,\"Practice\r\nOne\"\r\n\r\nq,\r\n"), kindOf(Practices))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 p|Practice\nOne", "5 q|"} {
		cells, line, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s|%s", line, cells[0].text, cells[1].text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("after the last row: %v", err)
	}
}

// TestProgressInALogIsPlain: where nobody watches, one line for each step.
func TestProgressInALogIsPlain(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	print := PrintProgress(write)
	print(Progress{Step: "read clients.csv", Done: 10, Total: 20, Rows: 1})
	print(Progress{Step: "read clients.csv", Done: 20, Total: 20, Rows: 2, Over: true})
	print(Progress{Step: "check", Over: true})
	write.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(read); err != nil {
		t.Fatal(err)
	}
	if want := "read clients.csv: 2 rows\ncheck: done\n"; text.String() != want {
		t.Errorf("got %q, want %q", text.String(), want)
	}
	if got, want := (Progress{Step: "write clients", Done: 5, Total: 10, Rows: 5}).bar(), "write clients        [###############...............]  50%  5 rows"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
