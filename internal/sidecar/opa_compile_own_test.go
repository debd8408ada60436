package sidecar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/web"
)

// ownFilters is a bundle of one's own with filters that OPA translates right,
// and ones that it would not.
var ownFilters = fstest.MapFS{"filters/filters.rego": {Data: []byte(`# METADATA
# scope: package
# compile:
#   unknowns: [input.chart]
# custom:
#   not_null: [input.chart.status]
package filters

import rego.v1

default mine := false

mine if input.chart.owner == input.user

mine if {
	input.chart.team in {"a", "b"}
	input.chart.level >= 3
}

open if {
	input.chart.status != "merged"
	owned
}

others if not input.chart.owner == input.user

differs if input.chart.owner != input.user

unowned if input.chart.owner == null

helper if not owned

owned if input.chart.owner == input.user

all if input.user == "admin"

# METADATA
# compile:
#   mask_rule: masks
masked if input.chart.owner == input.user

masks := {"chart": {"note": {"replace": {"value": "***"}}}}
`)}}

func TestOwnFilters(t *testing.T) {
	bundle, err := pdp.ReadFolder(ownFilters)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pdp.NewEngine(t.Context(), bundle, "data.filters.mine")
	if err != nil {
		t.Fatal(err)
	}
	b := benchOf(t, engine, web.Caller{Scopes: web.Scopes, AllPractices: true})
	ask := func(rule, user, accept, rest string) reply {
		return b.do(t, "POST", "/v1/compile/filters/"+rule, `{"input": {"user": "`+user+`"}`+rest+`}`, "Accept", accept)
	}
	for _, c := range []struct{ rule, user, accept, rest, want string }{
		{"mine", "ann", acceptPostgres, "", `{"result":{"query":"WHERE (chart.owner = E'ann' OR (chart.team IN (E'a', E'b') AND chart.level \u003e= E'3'))"}}`},
		{"open", "ann", acceptPostgres, `, "options": {"targetSQLTableMappings": {"postgresql": {"chart": {"$self": "c", "owner": "owned_by"}}}}`, `c.owned_by = E'ann'`},
		{"mine", "ann", "application/vnd.opa.sql.mysql+json", "", `chart.owner = 'ann'`},
		{"mine", "ann", acceptUCAST, "", `"field":"chart.owner"`},
		{"all", "admin", acceptPostgres, "", `{"result":{"query":""}}`},
		{"all", "ann", acceptPostgres, "", `{}`},
		{"masked", "ann", acceptPostgres, "", `"masks":{"chart":{"note":{"replace":{"value":"***"}}}}`},
		{"owned", "ann", acceptPostgres, `, "options": {"maskRule": "data.filters.masks"}`, `"masks":`},
		{"mine", "ann", multiTarget, `, "options": {"targetDialects": ["sql+postgresql", "ucast+prisma"]}`, `"ucast":`},
		{"mine", "ann", acceptPostgres, `, "unknowns": ["input.chart"]`, `chart.owner = E'ann'`},
	} {
		b.store.taken()
		r := ask(c.rule, c.user, c.accept, c.rest)
		if r.status != 200 || !strings.Contains(strings.TrimSpace(r.body), c.want) || r.header.Get("Content-Type") != c.accept {
			t.Errorf("%+v: %d %s", c, r.status, r.body)
		}
		if v := b.store.taken(); len(v) != 1 || v[0].Exact.Code != authz.CodeListed || v[0].Input == nil {
			t.Errorf("%+v: recorded %+v", c, v)
		}
	}
	// What would be wrong about NULL is refused, with the rule's line and the reason.
	for rule, want := range map[string]string{"others": "stands below `not`", "helper": "stands below `not`", "differs": "is compared with !=", "unowned": "is compared with null"} {
		e := ask(rule, "ann", acceptPostgres, "").object(t)
		faults, _ := e["errors"].([]any)
		if e["code"] != "evaluation_error" || len(faults) != 1 || faults[0].(map[string]any)["code"] != "pe_fragment_error" ||
			!strings.Contains(fmt.Sprint(faults[0]), want) || !strings.Contains(fmt.Sprint(faults[0]), "input.chart.owner") ||
			!strings.Contains(fmt.Sprint(faults[0]), "filters/filters.rego") {
			t.Errorf("%s: %v", rule, e)
		}
	}
	for _, c := range []struct{ rule, rest, want string }{
		{"nothing", "", "the bundle has no rule data.filters.nothing"},
		{"mine", `, "unknowns": ["input.["]`, "unknowns: "},
		{"mine", `, "unknowns": ["fruit.chart"]`, "under neither input nor data"},
		{"mine", `, "options": {"targetSQLTableMappings": {"chart": {"owner": 1}}}`, "options.targetSQLTableMappings"},
	} {
		if r := ask(c.rule, "ann", acceptPostgres, c.rest); r.status != 400 || !strings.Contains(r.body, c.want) {
			t.Errorf("%+v: %d %s", c, r.status, r.body)
		}
	}
	b = benchOf(t, engine, web.Caller{Scopes: web.Scopes, Practices: []string{"practice-1"}})
	if r := ask("mine", "ann", acceptPostgres, ""); r.status != 401 && r.status != 403 {
		t.Errorf("a caller of one practice: %d %s", r.status, r.body)
	}
}

// TestOwnFiltersAreTheChecks runs filters of a bundle of one's own on rows of
// which any column can be NULL, and compares with the document itself.
func TestOwnFiltersAreTheChecks(t *testing.T) {
	pool := pgtest.Pool(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE chart (id serial, owner text, team text, level text, status text NOT NULL);
		INSERT INTO chart (owner, team, level, status) SELECT o, t, l, s FROM unnest('{ann,bob,NULL}'::text[]) o, unnest('{a,c,NULL}'::text[]) t, unnest('{1,5,NULL}'::text[]) l, unnest('{open,merged}'::text[]) s`); err != nil {
		t.Fatal(err)
	}
	bundle, err := pdp.ReadFolder(ownFilters)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pdp.NewEngine(t.Context(), bundle, "data.filters.mine")
	if err != nil {
		t.Fatal(err)
	}
	b := benchOf(t, engine, web.Caller{Scopes: web.Scopes, AllPractices: true})
	for _, rule := range []string{"mine", "open", "owned"} {
		r := b.do(t, "POST", "/v1/compile/filters/"+rule, `{"input": {"user": "ann"}}`, "Accept", acceptPostgres)
		result, ok := r.object(t)["result"].(map[string]any)
		if r.status != 200 || !ok {
			t.Fatalf("%s: %d %s", rule, r.status, r.body)
		}
		query, _ := result["query"].(string)
		got, err := readIDs(t, pool, "SELECT id::text FROM chart "+query+" ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		rows, err := pool.Query(t.Context(), "SELECT id::text, owner, team, level::int, status FROM chart ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for rows.Next() {
			var id, status string
			var owner, team *string
			var level *int
			if err := rows.Scan(&id, &owner, &team, &level, &status); err != nil {
				t.Fatal(err)
			}
			chart := map[string]any{"status": status}
			if owner != nil {
				chart["owner"] = *owner
			}
			if team != nil {
				chart["team"] = *team
			}
			if level != nil {
				chart["level"] = *level
			}
			v, _, err := engine.Query(t.Context(), "data.filters."+rule, map[string]any{"user": "ann", "chart": chart})
			if err != nil {
				t.Fatal(err)
			}
			if v == true {
				want = append(want, id)
			}
		}
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: filtered %v, by single checks %v", rule, got, want)
		}
	}
}
