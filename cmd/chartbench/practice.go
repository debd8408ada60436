package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"chartgate/internal/roster"

	"github.com/jackc/pgx/v5/pgxpool"
)

// practice is the practice that scenarios work on: clients who are assigned to
// practitioners in turn, and grants spread over both. It is the same each time.
type practice struct {
	Clients       int `default:"10000" help:"Clients of the practice. Default: ${default}."`
	Practitioners int `default:"200" help:"Practitioners of the practice. Default: ${default}."`
	Grants        int `default:"20000" help:"Grants on its clients. Default: ${default}."`
	Practices     int `default:"1" help:"Practices that clients and practitioners are spread over. Default: ${default}."`
}

// check refuses sizes that cannot be built.
func (p practice) check() error {
	switch {
	case p.Clients < 1:
		return fmt.Errorf("--clients: want at least 1")
	case p.Practices < 1 || p.Practitioners < 3*p.Practices:
		return fmt.Errorf("--practitioners: want at least 3 in each practice")
	case p.Grants < 0 || p.Grants > p.Clients*(p.team()-2):
		return fmt.Errorf("--grants: want 0 to %d, so that each client keeps a practitioner without one", p.Clients*(p.team()-2))
	}
	return nil
}

func client(i int) string       { return fmt.Sprintf("client-%d", i+1) }
func practitioner(i int) string { return fmt.Sprintf("practitioner-%d", i+1) }

// team is how many practitioners a practice has.
func (p practice) team() int { return p.Practitioners / p.Practices }

// of is the practice that client i belongs to.
func (p practice) of(i int) int { return i % p.Practices }

// local is client i's practitioner, counted within the practice.
func (p practice) local(i int) int { return i / p.Practices % p.team() }

// assigned returns the practitioner that client i is assigned to.
func (p practice) assigned(i int) int { return p.of(i)*p.team() + p.local(i) }

// grants returns how many grants there are on client i.
func (p practice) grants(i int) int {
	n := p.Grants / p.Clients
	if i < p.Grants%p.Clients {
		n++
	}
	return n
}

// granted returns the practitioner who holds grant k of client i; with k beyond
// the last grant, one who has no basis for the client.
func (p practice) granted(i, k int) int {
	others := p.team() - 1
	return p.of(i)*p.team() + (p.local(i)+1+(i*7+k)%others)%p.team()
}

// load imports the practice as any other, from the folder it was written to.
func (p practice) load(ctx context.Context, pool *pgxpool.Pool, folder string, progress func(roster.Progress)) (roster.Report, error) {
	files, err := roster.Paths(folder)
	if err != nil {
		return roster.Report{}, err
	}
	return roster.Load(ctx, pool, files, roster.Options{Actor: "admin-1", Progress: progress})
}

// write writes the files of an import.
func (p practice) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, file := range []struct {
		name, header string
		rows         func(put func(format string, values ...any))
	}{
		{"practices.csv", "id,name", func(put func(string, ...any)) {
			for i := range p.Practices {
				put("practice-%d,Practice %d\n", i+1, i+1)
			}
		}},
		{"members.csv", "practice,user,name,roles,owner", func(put func(string, ...any)) {
			for i := range p.Practices {
				put("practice-%d,admin-1,Administrator One,administrator,true\n", i+1)
			}
			for i := range p.team() * p.Practices {
				put("practice-%d,%s,Practitioner %d,practitioner,false\n", i/p.team()+1, practitioner(i), i+1)
			}
		}},
		{"clients.csv", "id,practice,first_name,last_name,email,assigned,status", func(put func(string, ...any)) {
			for i := range p.Clients {
				put("%[1]s,practice-%[4]d,Client,Number %[2]d,%[1]s@example.com,%[3]s,active\n", client(i), i+1, practitioner(p.assigned(i)), p.of(i)+1)
			}
		}},
		{"grants.csv", "client,user,granted_by", func(put func(string, ...any)) {
			for i := range p.Clients {
				for k := range p.grants(i) {
					put("%s,%s,admin-1\n", client(i), practitioner(p.granted(i, k)))
				}
			}
		}},
	} {
		f, err := os.Create(filepath.Join(folder, file.name))
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		fmt.Fprintln(w, file.header)
		file.rows(func(format string, values ...any) { fmt.Fprintf(w, format, values...) })
		if err := w.Flush(); err != nil { // it keeps the first error
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// question is one question whose answer is known.
type question struct {
	user, client string
	allow        bool
	code         string
}

// questions draws n questions "may this practitioner open this chart?": by
// turns from the assigned practitioner, the holder of a grant, and one who has
// neither. They are the same each time.
func (p practice) questions(n int) []question {
	random := rand.New(rand.NewPCG(2, 10))
	list := make([]question, n)
	for j := range list {
		i := random.IntN(p.Clients)
		q := question{client: client(i)}
		grants := p.grants(i)
		switch {
		case j%3 == 0:
			q.user, q.allow, q.code = practitioner(p.assigned(i)), true, "assigned"
		case j%3 == 1 && grants > 0:
			q.user, q.allow, q.code = practitioner(p.granted(i, random.IntN(grants))), true, "client_grant"
		default:
			q.user, q.code = practitioner(p.granted(i, grants+random.IntN(p.team()-1-grants))), "no_basis"
		}
		list[j] = q
	}
	return list
}
