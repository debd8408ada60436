package compile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// The world of the random policies: a row c, of which every column may be NULL,
// an optional row g, a list that is a table, and a subject s that is known.
var randomForms = map[string]form{"c.a": formText, "c.b": formText, "c.flag": formBool, "c.n": formNumber, "c.at": formTime, "c.roles": formTexts,
	"g.scope": formText, "g.until": formTime, "list": formAny, "s.id": formText, "s.roles": formTexts,
	"g": formObject, "c": formObject, "s": formObject}

func randomForm(path string) (form, bool) { f, ok := randomForms[path]; return f, ok }

// author writes random policies.
type author struct{ *rand.Rand }

func (a author) of(options ...string) string { return options[a.IntN(len(options))] }

func (a author) word() string { return a.of(`"x"`, `"y"`, `"z"`, `""`) }

func (a author) moment() string {
	return `"` + authz.FormatTime(base.Add(time.Duration(a.IntN(3))*time.Hour)) + `"`
}

// text is something that is a text, or undefined.
func (a author) text(vars []string) string {
	return a.of(append([]string{"input.c.a", "input.c.b", "input.s.id", "input.g.scope"}, vars...)...)
}

func (a author) compare() string { return a.of("==", "!=", "<", "<=", ">", ">=") }

// expr writes one expression; vars are texts that loops stand at.
func (a author) expr(depth int, vars []string) string {
	switch n := a.IntN(19); {
	case n < 3:
		return fmt.Sprintf("%s %s %s", a.text(vars), a.compare(), a.of(a.word(), a.text(vars)))
	case n == 3:
		return fmt.Sprintf("%s in {%s, %s}", a.text(vars), a.word(), a.word())
	case n == 4:
		return fmt.Sprintf("%s in %s", a.of(a.word(), a.text(vars)), a.of("input.c.roles", "input.s.roles"))
	case n == 5:
		return fmt.Sprintf("%s(%s, %s)", a.of("startswith", "endswith", "contains"), a.text(vars), a.of(a.word(), a.text(vars)))
	case n == 6:
		return a.of("input.c.flag", "input.c.flag == true", "input.c.flag == false", "input.c.flag != true", "input.c.n == 1", "input.c.n < 2", "input.c.n != 1", `input.c.n < "x"`, "input.c.a == 1")
	case n == 7:
		return fmt.Sprintf("%s %s %s", a.of("input.c.at", "input.g.until"), a.compare(), a.of(a.moment(), "input.c.at", "input.g.until", `"2026"`, "input.c.a", "1"))
	case n == 8:
		return fmt.Sprintf("%s(%s)", a.of("is_string", "is_boolean", "is_number", "is_array"), a.of("input.c.a", "input.c.flag", "input.c.n", "input.c.roles", "input.g.scope", "input.c.at"))
	case n == 9:
		return a.of("h1", "h2", "not h1", "not h2", "h3 == true", "h3 == false", "not h3", `level == "low"`, `level != "low"`, "h1 == true")
	case n == 10:
		return a.of("", "not ") + fmt.Sprintf("f(%s)", a.text(vars))
	case n == 11:
		return a.of(`"p" in names`, `not "p" in names`, fmt.Sprintf(`some n%[1]d in names; n%[1]d != "p"`, a.IntN(1e9)), fmt.Sprintf(`some n%[1]d in names; n%[1]d == input.c.a`, a.IntN(1e9)), `not "q" in names`)
	case n == 12:
		return a.of(`table[input.c.a].k == 1`, `table[input.c.a].k != 1`, fmt.Sprintf(`some k%[1]d, t%[1]d in table; t%[1]d.k == 2; k%[1]d == input.c.b`, a.IntN(1e9)), `not table[input.c.b].k == 1`, `g(input.c.a) == "small"`, `g(input.c.b) != "small"`)
	case n >= 13 && n <= 16 && depth > 0:
		return a.loop(n, depth, vars)
	}
	return "not " + fmt.Sprintf("%s %s %s", a.text(vars), a.compare(), a.of(a.word(), a.text(vars)))
}

// loop writes a loop over a list, a known one or a table's; its element is used.
func (a author) loop(kind, depth int, vars []string) string {
	v, list := fmt.Sprintf("v%d", a.IntN(1e9)), a.of("input.c.roles", "input.s.roles", `["x", "y"]`)
	inner := []string{v}
	if kind >= 15 {
		list, inner = "input.list", []string{v + ".k", v + ".v"}
	}
	uses := fmt.Sprintf("%s%s %s %s", a.of("", "not "), a.of(inner...), a.compare(), a.of(a.word(), a.text(vars)))
	if a.IntN(2) == 0 {
		uses += "; " + a.expr(depth-1, append(slices.Clone(vars), inner...))
	}
	if kind%2 == 0 {
		return fmt.Sprintf("every %s in %s { %s }", v, list, uses)
	}
	return fmt.Sprintf("some %s in %s; %s", v, list, uses)
}

func (a author) body() string {
	var out []string
	for range 1 + a.IntN(3) {
		out = append(out, a.expr(2, nil))
	}
	return strings.Join(out, "\n\t")
}

func (a author) rule(head string) string { return head + " if {\n\t" + a.body() + "\n}\n" }

// module is a package of rules p0 … and what they share.
func (a author) module(rules int) string {
	var b strings.Builder
	b.WriteString("package p\n")
	if a.IntN(3) == 0 {
		b.WriteString("import future.keywords.not\n")
	}
	plain := author{a.Rand}
	simple := func() string {
		return fmt.Sprintf("%s%s %s %s", plain.of("", "not "), plain.text(nil), plain.compare(), plain.of(plain.word(), plain.text(nil)))
	}
	fmt.Fprintf(&b, "table := {\"x\": {\"k\": 1}, \"y\": {\"k\": 2}}\nh1 if %s\nh1 if %s\nh2 if { %s; not h1 }\ndefault h3 := false\nh3 if %s\n", simple(), simple(), simple(), simple())
	fmt.Fprintf(&b, "level := \"low\" if input.c.n == 1\nlevel := \"high\" if input.c.n == 2\nnames contains \"p\" if %s\nnames contains \"q\" if h2\nnames contains input.c.b if %s\n", simple(), simple())
	fmt.Fprintf(&b, "f(t) if t == %s\nf(t) if { startswith(t, %s); not t == input.s.id }\ng(t) := \"small\" if t < \"y\"\ng(t) := \"large\" if t >= \"y\"\n", a.word(), a.word())
	for i := range rules {
		for range 1 + a.IntN(2) {
			b.WriteString(a.rule(fmt.Sprintf("p%d", i)))
		}
	}
	return b.String()
}

var base = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// document draws facts; odd ones hold null and values of wrong types.
func (a author) document(odd bool) map[string]any {
	doc := map[string]any{"s": map[string]any{"id": "x", "roles": []any{"x", "q"}}}
	word := func() any { return []any{"x", "y", "z", "", "xy"}[a.IntN(5)] }
	some := func() bool { return a.IntN(4) > 0 }
	c := map[string]any{}
	for name, v := range map[string]any{"a": word(), "b": word(), "flag": a.IntN(2) == 0, "n": int64(a.IntN(3)), "at": authz.FormatTime(base.Add(time.Duration(a.IntN(3)) * time.Hour))} {
		if some() {
			c[name] = v
		}
	}
	if some() {
		roles := []any{}
		for range a.IntN(3) {
			roles = append(roles, word())
		}
		c["roles"] = roles
	}
	doc["c"] = c
	if some() {
		doc["g"] = map[string]any{"scope": word(), "until": authz.FormatTime(base.Add(time.Duration(a.IntN(3)) * time.Hour))}
	}
	list := []any{}
	for range a.IntN(3) {
		list = append(list, map[string]any{"k": word(), "v": word()})
	}
	doc["list"] = list
	if odd {
		for _, table := range []map[string]any{c, doc} {
			for _, name := range slices.Sorted(maps.Keys(table)) {
				if a.IntN(4) == 0 {
					table[name] = []any{nil, 1, "x", true, []any{"x", 1}, map[string]any{"x": "y"}, []any{map[string]any{"k": nil}}}[a.IntN(7)]
				}
			}
		}
	}
	return doc
}

// TestRandomPoliciesAreOPA compares formulas and SQL with OPA on random small
// policies: 1,200 of them, on sound facts, on odd ones, and on tables with NULL.
func TestRandomPoliciesAreOPA(t *testing.T) {
	const modules, rules = 60, 20
	a := author{rand.New(rand.NewPCG(7, 8))}
	stage := newStage(t, a)
	tried := 0
	for range modules {
		source := a.module(rules)
		compiler, err := ast.CompileModulesWithOpt(map[string]string{"p.rego": source}, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
		if err != nil {
			continue // not Rego: an unsafe variable, a type that cannot be
		}
		from := Source{Compiler: compiler, Store: inmem.New()}
		for i := range rules {
			name := fmt.Sprintf("data.p.p%d", i)
			left, err := partial(t.Context(), from, "x", name+" = x", []string{"c", "g", "s", "list"})
			if err != nil {
				t.Fatal(err)
			}
			outcomes, err := convert(t.Context(), left, randomForm)
			if err != nil {
				t.Fatalf("%v\n%s", err, source)
			}
			f := no
			for _, o := range outcomes {
				f = or(f, o.cond)
			}
			switch err := stage.compare(from, name, f); {
			case errors.Is(err, errDeep):
				continue // OPA's
			case err != nil:
				t.Fatalf("%v\n%s\n%s = %s", err, source, name, f)
			}
			tried++
		}
	}
	if tried < 1000 {
		t.Errorf("only %d policies were tried", tried)
	}
}

// stage is documents, of which the sound ones also are rows of tables.
type stage struct {
	pool      *pgxpool.Pool
	documents []map[string]any
	rows      int // the first ones are rows
}

func newStage(t *testing.T, a author) *stage {
	s := &stage{pool: pgtest.Pool(t), rows: 24}
	if _, err := s.pool.Exec(t.Context(), `CREATE TABLE c (id int, a text, b text, flag boolean, n bigint, at timestamptz, roles text[]);
		CREATE TABLE g (c int, scope text, until timestamptz); CREATE TABLE list (c int, k text, v text)`); err != nil {
		t.Fatal(err)
	}
	b := &pgx.Batch{}
	for i := range s.rows + 12 {
		doc := a.document(i >= s.rows)
		s.documents = append(s.documents, doc)
		if i >= s.rows {
			continue
		}
		c := doc["c"].(map[string]any)
		b.Queue(`INSERT INTO c VALUES ($1, $2, $3, $4, $5, $6::text::timestamptz, $7)`, i, c["a"], c["b"], c["flag"], c["n"], c["at"], c["roles"])
		if g, ok := doc["g"].(map[string]any); ok {
			b.Queue(`INSERT INTO g VALUES ($1, $2, $3::text::timestamptz)`, i, g["scope"], g["until"])
		}
		for _, e := range doc["list"].([]any) {
			b.Queue(`INSERT INTO list VALUES ($1, $2, $3)`, i, e.(map[string]any)["k"], e.(map[string]any)["v"])
		}
	}
	if err := s.pool.SendBatch(t.Context(), b).Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) compare(from Source, name string, f *Formula) error {
	ctx := context.Background()
	q, err := rego.New(rego.Query(name+" == true"), rego.Compiler(from.Compiler), rego.Store(from.Store)).PrepareForEval(ctx)
	if err != nil {
		return err
	}
	c := newCode()
	node, err := c.add(f)
	if err != nil {
		return err
	}
	var want []int
	for i, doc := range s.documents {
		results, err := q.Eval(ctx, rego.EvalInput(doc))
		if err != nil {
			return err
		}
		fr := frame{document: doc}
		if got := c.eval(&fr, node); got != (len(results) > 0) {
			return fmt.Errorf("formula %v, OPA %v on %v", got, len(results) > 0, doc)
		}
		if len(results) > 0 && i < s.rows {
			want = append(want, i)
		}
	}
	got, sql, err := s.query(f)
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("rows %v, OPA %v: %s", got, want, sql)
	}
	return nil
}

func (s *stage) query(f *Formula) ([]int, string, error) {
	w := &writer{elements: map[int]map[string]column{}, opened: map[string]bool{},
		columns: map[string]column{"c.a": {sql: "c.a", form: formText, null: true}, "c.b": {sql: "c.b", form: formText, null: true}, "c.flag": {sql: "c.flag", form: formBool, null: true},
			"c.n": {sql: "c.n", form: formNumber, null: true}, "c.at": {sql: "c.at", form: formTime, null: true}, "c.roles": {sql: "c.roles", form: formTexts, null: true},
			"g.scope": {sql: "g.scope", form: formText, row: "g"}, "g.until": {sql: "g.until", form: formTime, row: "g"}, "list": {form: formTexts}},
		rows: map[string]row{"g": {from: "g", on: "g.c = c.id", where: "TRUE"}},
		collections: map[string]collection{"list": func(alias string) (string, string, map[string]column) {
			return "list " + alias, alias + ".c = c.id", map[string]column{"k": {sql: alias + ".k", form: formText}, "v": {sql: alias + ".v", form: formText}}
		}}}
	known := func(path string) (ast.Value, string, bool) {
		switch path {
		case "s.id":
			return ast.String("x"), "", true
		case "s.roles":
			return ast.NewArray(ast.StringTerm("x"), ast.StringTerm("q")), "", true
		}
		return nil, "", false
	}
	where, err := w.condition(f.specialise(known))
	if err != nil {
		return nil, "", err
	}
	q := w.query("SELECT c.id FROM c WHERE " + where + " ORDER BY c.id")
	rows, err := s.pool.Query(context.Background(), q.SQL, append([]any{pgx.QueryExecModeExec}, q.Args...)...)
	if err != nil {
		return nil, q.SQL, err
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[int])
	return out, q.SQL, err
}

// TestRefusals lists what is not translated, with where and what to do instead.
func TestRefusals(t *testing.T) {
	for body, want := range map[string]string{
		"e == 2":                                       "`else` is used",
		"count(input.c.roles) > 0":                     "the function count is used",
		"lower(input.c.a) == \"x\"":                    "the function lower is used",
		"{r | some r in input.c.roles} == {\"x\"}":     "a comprehension is used",
		"h with input.c.a as \"x\"":                    "`with` is used",
		"input.c.roles[0] == \"x\"":                    "is looked into by something that is not known",
		"input.c.roles[i] == input.s.roles[i]":         "is looked into by something that is not known",
		"some i, r in input.c.roles; r == i":           "the index of a list is used",
		"input.c[input.s.id] == 1":                     "is looked into by something that is not known",
		"input.c == {\"a\": 1}":                        "a whole table is compared",
		"names == {\"p\"}":                             "a whole set is compared",
		"[input.c.a, input.c.b] in {[\"x\", \"y\"]}":   "put together",
		"time.parse_rfc3339_ns(input.c.at) > 1":        "the function time.parse_rfc3339_ns is used",
		"some n in objects":                            "depends on a value",
		"object.get(input.c, \"a\", \"x\") == \"x\"":   "the function object.get is used",
		"startswith(input.c.a, \"x\") == input.c.flag": "the outcome of a test is compared",
	} {
		source := "package p\nh if input.c.a == \"y\"\ne := 1 if input.c.a == \"x\" else := 2 if input.c.b == \"x\"\nnames contains \"p\" if h\nobjects[k] := 1 if k := input.c.a\nallow if {\n\t" + body + "\n}\n"
		compiler, err := ast.CompileModulesWithOpt(map[string]string{"rules/p.rego": source}, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		left, err := partial(t.Context(), Source{compiler, inmem.New()}, "x", "data.p.allow = x", []string{"c", "g", "s", "list"})
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		out, err := convert(t.Context(), left, randomForm)
		var u *Untranslatable
		if !errors.As(err, &u) || !strings.Contains(u.What, want) || u.File != "rules/p.rego" || u.Line == 0 {
			t.Errorf("%s: %v (%v), want %q", body, err, out, want)
		}
	}
}
