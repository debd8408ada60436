package sidecar

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// maxTargets is how many filters one call may ask for.
const maxTargets = 16

// readCompile reads a request of OPA's compile API.
func (s *Server) readCompile(c *fiber.Ctx) (*compileRequest, error) {
	var body map[string]any
	if err := s.readLenient(c, &body); err != nil {
		return nil, err
	}
	q := &compileRequest{input: body["input"]}
	r := reader{}
	q.unknowns = r.texts(body, "", "unknowns")
	options := r.object(body, "", "options")
	q.disableInlining = r.texts(options, "/options", "disableInlining")
	q.mappings = r.object(options, "/options", "targetSQLTableMappings")
	dialects := r.texts(options, "/options", "targetDialects")
	switch v := options["maskRule"].(type) {
	case nil:
	case string:
		q.maskRule = v
	default:
		r.wrong("/options/maskRule", "must be a string")
	}
	if r.fault != nil {
		return nil, r.fault
	}
	accept := web.Copy(c.Get(fiber.HeaderAccept))
	t, known := targets[accept]
	switch {
	case accept == "":
		return nil, web.Malformed("Accept header: missing required header", "", "")
	case strings.Contains(accept, ","):
		return nil, web.Malformed("Accept header: multiple headers not supported", "", "")
	case known:
		q.targets = []pdp.Target{t}
		return q, nil
	case accept != multiTarget:
		return nil, web.Malformed(fmt.Sprintf("Accept header: unsupported header: %.100s; there are %s and %s", accept, strings.Join(slices.Sorted(maps.Keys(targets)), ", "), multiTarget), "", "")
	case len(dialects) == 0 || len(dialects) > maxTargets:
		return nil, web.Malformed(fmt.Sprintf("options.targetDialects must name 1 to %d targets, such as sql+postgresql", maxTargets), "/options/targetDialects", "must name targets")
	}
	q.multi = true
	for _, d := range dialects {
		name, dialect, _ := strings.Cut(d, "+")
		t := pdp.Target{Name: name, Dialect: dialect}
		if !slices.Contains(slices.Collect(maps.Values(targets)), t) {
			return nil, web.Malformed(fmt.Sprintf("options.targetDialects: there is no target %.100q; one is sql+postgresql", d), "/options/targetDialects", "must name targets")
		}
		q.targets = append(q.targets, t)
	}
	return q, nil
}

// texts returns a member that may be left out, and is an array of strings
// otherwise.
func (r *reader) texts(m map[string]any, pointer, name string) []string {
	switch v := m[name].(type) {
	case nil:
	case []any:
		out := make([]string, 0, len(v))
		for _, one := range v {
			s, ok := one.(string)
			if !ok {
				r.wrong(pointer+"/"+name, "must be an array of strings")
				return nil
			}
			out = append(out, s)
		}
		return out
	default:
		r.wrong(pointer+"/"+name, "must be an array of strings")
	}
	return nil
}

// alias is what the table of clients is called: "$self" of its mapping, for all
// targets, for SQL or for PostgreSQL. Its columns, and other tables, have the
// names that they have.
func (q *compileRequest) alias() (string, error) {
	m := q.mappings
	for _, of := range []string{postgresql.Dialect, postgresql.Name} {
		if own, ok := m[of].(map[string]any); ok {
			m = own
			break
		}
	}
	alias := "clients"
	const only = `can hold {"client": {"$self": the name of the table clients}} only`
	for table, v := range m {
		names, ok := v.(map[string]any)
		if !ok || (table != "client" && table != "clients") {
			return "", web.Malformed("options.targetSQLTableMappings "+only, "/options/targetSQLTableMappings", only)
		}
		for column, to := range names {
			s, ok := to.(string)
			if !ok || column != "$self" {
				return "", web.Malformed("options.targetSQLTableMappings "+only, "/options/targetSQLTableMappings", only)
			}
			alias = s
		}
	}
	return alias, nil
}
