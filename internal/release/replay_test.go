package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/record"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func replayed(t testing.TB, source Recorded, e *pdp.Engine, o ReplayOptions) *ReplayReport {
	t.Helper()
	if stream, ok := source.(*record.Stream); ok {
		defer stream.Close() // it holds a connection
	}
	report, err := Replay(t.Context(), source, e, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// wanted is the report that brute force gives: OPA on the document of every
// decision, one after the other.
func (s stored) wanted(t *testing.T, candidate, slow *pdp.Engine, fits func(v *authz.Verdict) bool) *ReplayReport {
	t.Helper()
	c := newCounts(5)
	j, err := newJudge(t.Context(), candidate)
	if err != nil {
		t.Fatal(err)
	}
	r := &replay{candidate: j}
	members, clients := map[string]map[string]bool{}, map[string]map[string]bool{}
	note := func(in map[string]map[string]bool, key, id string) {
		if in[key] == nil {
			in[key] = map[string]bool{}
		}
		in[key][id] = true
	}
	examples := map[string][]uuid.UUID{}
	for i := range s.verdicts {
		v := &s.verdicts[i]
		switch {
		case fits != nil && !fits(v):
			continue
		case v.Exact.Code == authz.CodeListed:
			c.skipped[whyList]++
			c.read++
			continue
		case v.Input != nil:
			c.skipped[whyOwnBundle]++
			c.read++
			continue
		case v.Exact.Code == authz.CodeUnavailable:
			c.skipped[whyUnavailable]++
			c.read++
			continue
		}
		c.read++
		d, err := slow.EvaluateDocument(t.Context(), authz.Document(v.Request, v.Facts))
		if err != nil {
			t.Fatal(err)
		}
		before, after := answerOf(v.Exact), answerOf(d)
		change := unchanged
		switch {
		case after.Allow && !before.Allow:
			change = gained
		case before.Allow && !after.Allow:
			change = lost
		case before.key() != after.key():
			change = reason
		}
		action := j.named(v.Request.Action)
		if c.actions[action] == nil {
			c.actions[action] = &[4]int64{}
		}
		c.actions[action][change]++
		c.changes[change].decisions++
		if change == unchanged {
			continue
		}
		key := groupKey{change, v.Request.Action, before.key(), after.key()}
		if c.groups[key] == nil {
			c.groups[key] = &group{}
		}
		c.groups[key].decisions++
		for _, name := range []string{changeNames[change], fmt.Sprint(key)} {
			note(members, name, v.Facts.Practice+" "+v.Request.Subject.Type+" "+v.Request.Subject.ID)
			if id := v.Request.Resource.Client(); id != "" {
				note(clients, name, id)
			}
		}
		examples[fmt.Sprint(key)] = append(examples[fmt.Sprint(key)], v.ID)
	}
	for key, g := range c.groups {
		ids := examples[fmt.Sprint(key)]
		slices.SortFunc(ids, compareIDs)
		g.examples = ids[:min(5, len(ids))]
	}
	out := r.report(c)
	sizes := func(t *Tally, key string) { t.Members, t.Clients = len(members[key]), len(clients[key]) }
	sizes(&out.Gained, "gained")
	sizes(&out.Lost, "lost")
	sizes(&out.Reason, "reason")
	for i := range out.Groups {
		g := &out.Groups[i]
		sizes(&g.Tally, fmt.Sprint(groupKey{slices.Index(changeNames[:], g.Change), g.Action, g.Before.key(), g.After.key()}))
	}
	return out
}

// TestReplayOfTheSamePolicyChangesNothing records thousands of decisions that
// OPA made, through a real spool and shipper, and replays them with the program
// of the same policy: from the database and from a file.
func TestReplayOfTheSamePolicyChangesNothing(t *testing.T) {
	s := newHistory(t, variant(t, false), 1).keep(t, 6000)
	same := variant(t, true)
	for name, source := range map[string]Recorded{"database": s.fromDatabase(t, record.Query{}, 0), "file": s.fromFile(t, record.Query{}, 0)} {
		report := replayed(t, source, same, ReplayOptions{})
		if report.Changed() != 0 || report.Read != 6000 || len(report.Groups) != 0 || report.Replayed < 5800 || report.Unchanged != report.Replayed {
			t.Errorf("%s: %+v", name, report)
		}
		apart := report.Read - report.Replayed
		for _, n := range report.NotReplayed {
			apart -= n.Decisions
		}
		if len(report.NotReplayed) != 3 || apart != 0 {
			t.Errorf("%s: not replayed: %+v", name, report.NotReplayed)
		}
		// Only what the policy does not know is left to OPA.
		if len(report.Slow) != 1 || report.Slow[0].Action != "" {
			t.Errorf("%s: by OPA: %+v", name, report.Slow)
		}
		if done, total := source.Progress(); done != total || total == 0 {
			t.Errorf("%s: %d of %d", name, done, total)
		}
	}
	var who string
	if err := s.control.QueryRow(t.Context(), `SELECT actor FROM changes WHERE action = 'record.replay'`).Scan(&who); err != nil || who != "admin-1" {
		t.Errorf("the replay is not on record: %q, %v", who, err)
	}
}

// edits that an administrator of policies could make.
var (
	forgottenExpiry = edit{"rules/grants/grants.rego", "input.context.latest < input.grant.expires_at", "input.context.latest != input.grant.expires_at"}
	widenedRow      = edit{"tables/roles/data.yaml", "scheduler:\n  always:\n    - client.list\n", "scheduler:\n  always:\n    - client.list\n    - chart.open\n"}
	narrowedRow     = edit{"tables/roles/data.yaml", "    - client.list\n    - billing.read\n    - billing.manage\n    - billing_settings.manage\n", "    - billing.read\n    - billing_settings.manage\n"}
	otherOrder      = edit{"tables/order/data.yaml", "  - assigned\n  - client_grant\n", "  - client_grant\n  - assigned\n"}
	untranslatable  = edit{"rules/scheduler/scheduler.rego", "import data.lib.member\n", "import data.lib.member\n\npermit if {\n\tcount(input.member.roles) > 0\n\tmember.scheduler\n\tinput.action.name in {\"client.reassign\", \"client.merge\", \"note.write\", \"billing.read\", \"message.send\"}\n}\n"}
)

// TestReplayIsBruteForce compares reports, to the last example id, with OPA on
// every document: for edits of rules and tables, for rules that only OPA can
// decide, by any number of workers.
func TestReplayIsBruteForce(t *testing.T) {
	s := newHistory(t, variant(t, true), 2).keep(t, 1800)
	before := variant(t, true)
	for name, edits := range map[string][]edit{
		"expiry forgotten":     {forgottenExpiry},
		"rows changed":         {widenedRow, narrowedRow},
		"a rule left to OPA":   {untranslatable},
		"everything at a time": {forgottenExpiry, widenedRow, narrowedRow, otherOrder, untranslatable},
	} {
		fast, slow := variant(t, true, edits...), variant(t, false, edits...)
		want := s.wanted(t, fast, slow, nil)
		if want.Changed() < 5 {
			t.Errorf("%s: only %d decisions change: it tries nothing", name, want.Changed())
		}
		want.Slow = nil
		for _, source := range []Recorded{s.fromDatabase(t, record.Query{}, 0), s.fromFile(t, record.Query{}, 0)} {
			for _, workers := range []int{1, 3} {
				if _, ok := source.(*record.File); ok == (workers == 1) {
					continue
				}
				got := replayed(t, source, fast, ReplayOptions{Workers: workers})
				if left := slices.ContainsFunc(got.Slow, func(a SlowAction) bool { return a.Action == "client.reassign" }); left != slices.Contains(edits, untranslatable) {
					t.Errorf("%s: by OPA: %+v", name, got.Slow)
				}
				got.Slow = nil
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: (-brute force +replay)\n%s", name, diff)
				}
			}
		}
		// Against the policy that recorded, decided anew, it is the same.
		got := replayed(t, s.fromFile(t, record.Query{}, 0), fast, ReplayOptions{Against: before})
		got.Slow, got.Against = nil, ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: against the policy before: (-brute force +replay)\n%s", name, diff)
		}
	}
}

// TestReplayOfAPart replays what fits a query, from the database and from a
// file, and the newest, or the first, of it.
func TestReplayOfAPart(t *testing.T) {
	s := newHistory(t, variant(t, true), 3).keep(t, 1500)
	fast, slow := variant(t, true, forgottenExpiry), variant(t, false, forgottenExpiry)
	at := s.verdicts[700].At
	for _, q := range []record.Query{{Practice: "practice-2"}, {From: at}, {To: at, User: "practitioner-1"}, {Action: "note.read"}, {Code: "client_grant"},
		{Practices: []string{"practice-1", "practice-3"}, Client: "client-7"}, {Release: "nobody's"}} {
		want := s.wanted(t, fast, slow, func(v *authz.Verdict) bool {
			return (q.Practice == "" || q.Practice == v.Facts.Practice) && (q.From.IsZero() || !v.At.Before(q.From)) && (q.To.IsZero() || v.At.Before(q.To)) &&
				(q.User == "" || q.User == v.Request.Subject.ID) && (q.Action == "" || q.Action == v.Request.Action) && (q.Client == "" || q.Client == v.Request.Resource.Client()) &&
				(q.Practices == nil || slices.Contains(q.Practices, v.Facts.Practice)) && (q.Release == "" || q.Release == v.Release) &&
				(q.Code == "" || q.Code == v.Exact.Code || slices.Contains(v.Exact.Bases, q.Code))
		})
		want.Slow = nil
		for _, source := range []Recorded{s.fromDatabase(t, q, 0), s.fromFile(t, q, 0)} {
			got := replayed(t, source, fast, ReplayOptions{})
			got.Slow = nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v: (-brute force +replay)\n%s", q, diff)
			}
		}
	}
	newest := slices.SortedFunc(slices.Values(s.verdicts), func(a, b authz.Verdict) int { return b.At.Compare(a.At) })[299].At
	for want, source := range map[*ReplayReport]Recorded{
		s.wanted(t, fast, slow, func(v *authz.Verdict) bool { return !v.At.Before(newest) }): s.fromDatabase(t, record.Query{}, 300),
		s.wanted(t, fast, slow, func(v *authz.Verdict) bool {
			return slices.IndexFunc(s.verdicts, func(w authz.Verdict) bool { return w.ID == v.ID }) < 300
		}): s.fromFile(t, record.Query{}, 300),
	} {
		want.Slow = nil
		got := replayed(t, source, fast, ReplayOptions{})
		got.Slow = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("300 of them: (-brute force +replay)\n%s", diff)
		}
	}
}

// lacking is a record whose settings were written by another build.
type lacking struct {
	Recorded
	change func(settings map[string]any) map[string]any
}

func (l lacking) Settings(ctx context.Context, digest []byte) ([]byte, error) {
	text, err := l.Recorded.Settings(ctx, digest)
	if err != nil {
		return nil, err
	}
	settings := map[string]any{}
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, err
	}
	if settings = l.change(settings); settings == nil {
		return nil, nil
	}
	return json.Marshal(settings)
}

// TestWhatIsNotOnRecordIsNotGuessed replays decisions of which the record does
// not hold everything that the policy reads.
func TestWhatIsNotOnRecordIsNotGuessed(t *testing.T) {
	s := newHistory(t, variant(t, true), 4).keep(t, 300)
	same := variant(t, true)
	withSettings := int64(0)
	for _, v := range s.verdicts {
		if v.Facts.Settings != nil && v.Input == nil {
			withSettings++
		}
	}
	for _, c := range []struct {
		what    string
		change  func(map[string]any) map[string]any
		skipped int64
		why     string
	}{
		{"settings that are gone", func(map[string]any) map[string]any { return nil }, withSettings, whyNoSettings},
		{"a setting that the policy reads and the record has not", func(m map[string]any) map[string]any { delete(m, "hide_unassigned"); return m }, withSettings, "reads the setting hide_unassigned"},
		{"a setting that the policy does not read", func(m map[string]any) map[string]any { delete(m, "archived_chart"); return m }, 0, ""},
		{"a setting of before", func(m map[string]any) map[string]any { m["of_before"] = 7; return m }, 0, ""},
		{"a value of before", func(m map[string]any) map[string]any { m["archived_portal"] = "read_only"; return m }, 0, ""},
	} {
		report := replayed(t, lacking{s.fromFile(t, record.Query{}, 0), c.change}, same, ReplayOptions{})
		var skipped int64
		for _, n := range report.NotReplayed {
			if c.why != "" && strings.Contains(n.Why, c.why) {
				skipped += n.Decisions
			}
		}
		if skipped != c.skipped || report.Changed() != 0 || report.Replayed == 0 && c.skipped == 0 {
			t.Errorf("%s: %+v", c.what, report)
		}
	}
	// A schema of one's own may speak of facts that nobody loads.
	unknown := variant(t, false, edit{"rules/scheduler/scheduler.rego", "import data.lib.member\n", "import data.lib.member\n\npermit if input.client.colour == \"red\"\n"},
		edit{"schemas/input.json", `"assigned": {`, `"colour": {"type": "string"}, "assigned": {`})
	report := replayed(t, s.fromFile(t, record.Query{}, 0), unknown, ReplayOptions{})
	if report.Replayed != 0 || !slices.ContainsFunc(report.NotReplayed, func(n Skipped) bool {
		return strings.Contains(n.Why, "reads input.client.colour, which the record does not hold")
	}) {
		t.Errorf("facts that no record holds: %+v", report)
	}
}

// TestReplayIsWholeOrAnError: a record that cannot be read, a source that
// breaks, a call that is given up leave no report.
func TestReplayIsWholeOrAnError(t *testing.T) {
	s := newHistory(t, variant(t, true), 5).keep(t, 3000)
	same := variant(t, true)
	broken := errors.New("broken")
	for what, source := range map[string]Recorded{
		"a source that breaks": breaking{s.fromFile(t, record.Query{}, 0), 1000, broken},
		"settings that cannot be read": lacking{s.fromFile(t, record.Query{}, 0), func(m map[string]any) map[string]any {
			m["grant_max_days"] = 1.5
			return m
		}},
	} {
		if report, err := Replay(t.Context(), source, same, ReplayOptions{}); err == nil {
			t.Errorf("%s: %+v", what, report)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Replay(ctx, s.fromFile(t, record.Query{}, 0), same, ReplayOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	own, err := pdp.NewEngine(t.Context(), &pdp.Bundle{Revision: "own", Modules: same.Source().Compiler.Modules, Data: map[string]any{}}, "data.authz.allow")
	if err == nil {
		_, err = Replay(t.Context(), s.fromFile(t, record.Query{}, 0), own, ReplayOptions{})
	}
	if err == nil {
		t.Error("a policy of one's own was replayed")
	}
}

// breaking fails after some decisions.
type breaking struct {
	Recorded
	after int
	err   error
}

func (b breaking) Next(ctx context.Context, into *record.Bodies) error {
	if done, _ := b.Progress(); done > int64(b.after) {
		return b.err
	}
	return b.Recorded.Next(ctx, into)
}

// again reads a file over and over, until n decisions were read.
type again struct {
	*record.File
	open func() *record.File
	left int
}

func (a *again) Next(ctx context.Context, b *record.Bodies) error {
	if a.left <= 0 {
		return io.EOF
	}
	err := a.File.Next(ctx, b)
	if errors.Is(err, io.EOF) {
		a.File.Close()
		a.File = a.open()
		err = a.File.Next(ctx, b)
	}
	a.left -= b.Len()
	return err
}

// BenchmarkReplay replays b.N decisions of a file, and of the database, with a
// policy that changed; and says how many a second.
func BenchmarkReplay(b *testing.B) {
	s := newHistory(b, variant(b, true), 6).keep(b, 40_000)
	for name, candidate := range map[string]*pdp.Engine{"same": variant(b, true), "changed": variant(b, true, forgottenExpiry, widenedRow)} {
		b.Run("file/"+name, func(b *testing.B) {
			open := func() *record.File { return s.fromFile(b, record.Query{}, 0) }
			b.ReportAllocs()
			timed(b, func() int64 { return replayed(b, &again{open(), open, b.N}, candidate, ReplayOptions{}).Read })
		})
	}
	b.Run("database", func(b *testing.B) {
		same := variant(b, true)
		timed(b, func() (read int64) {
			for left := b.N; left > 0; left -= len(s.verdicts) {
				read += replayed(b, s.fromDatabase(b, record.Query{}, 0), same, ReplayOptions{}).Read
			}
			return read
		})
	})
	b.Run("OPA", func(b *testing.B) { // a candidate without a program
		open := func() *record.File { return s.fromFile(b, record.Query{}, 0) }
		slow := variant(b, false)
		timed(b, func() int64 { return replayed(b, &again{open(), open, min(b.N, 4000)}, slow, ReplayOptions{}).Read })
	})
}

// timed reports how many decisions a second work replays, and what each costs
// this process, which other work on the machine does not change.
func timed(b *testing.B, work func() int64) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ResetTimer()
	began, before := time.Now(), used()
	n := work()
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "records/s")
	b.ReportMetric(float64(used()-before)/float64(n), "own-cpu-ns/record")
}

func TestReportsOfTheSameRecordAreTheSame(t *testing.T) {
	s := newHistory(t, variant(t, true), 8).keep(t, 2000)
	candidate := variant(t, true, forgottenExpiry, widenedRow)
	var first []byte
	for _, workers := range []int{1, 2, 5} {
		for _, source := range []Recorded{s.fromDatabase(t, record.Query{}, 0), s.fromFile(t, record.Query{}, 0)} {
			text, err := json.Marshal(replayed(t, source, candidate, ReplayOptions{Workers: workers, Examples: 3}))
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = text
			}
			if !bytes.Equal(first, text) {
				t.Errorf("%s\n%s", first, text)
			}
		}
	}
}
