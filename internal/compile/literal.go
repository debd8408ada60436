package compile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"chartgate/internal/authz"
)

// Filter is a condition on rows of clients, as one text.
type Filter struct {
	SQL   string // what stands behind WHERE; "" where Never
	Never bool   // no row can fit, whatever the tables hold
}

// ClientsText is ClientsFilter as one text with no parameters, for those who
// can take nothing else: the rows of clients are called alias in it.
func (p *Policy) ClientsText(l Listing, alias string) (Filter, error) {
	if !aliasName.MatchString(alias) || insideNames[alias] {
		return Filter{}, badAlias(alias)
	}
	a, err := p.listable(l)
	if err != nil {
		return Filter{}, err
	}
	if l.clientWriter().plain(a.Allow.specialise(l.forMember(a))) == no {
		return Filter{Never: true}, nil
	}
	q, err := p.ClientsFilter(l)
	if err != nil {
		return Filter{}, err
	}
	q.SQL = clientsColumn.ReplaceAllString(q.SQL, alias+".")
	sql, err := q.Text()
	return Filter{SQL: sql}, err
}

var (
	aliasName     = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	clientsColumn = regexp.MustCompile(`\bc\.`)
	// insideNames are what a filter calls other rows: an alias of the same name
	// would mean those.
	insideNames = map[string]bool{"g": true, "earlier": true, "h": true, "grants": true}
)

func badAlias(alias string) error {
	const detail = "the table's name must be 1 to 63 small letters, digits and underscores, and none of g, h, earlier and grants"
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: fmt.Sprintf("table name %.80q: %s", alias, detail),
		Fields: []authz.Field{{Pointer: "/options/targetSQLTableMappings", Detail: detail}}}
}

// Text writes the statement with its parameters put in as literals. The text is
// plain ASCII, and means the same whatever the settings of the session are.
func (q Query) Text() (string, error) {
	var failed error
	text := parameter.ReplaceAllStringFunc(q.SQL, func(name string) string {
		n, err := strconv.Atoi(name[1:])
		if err != nil || n < 1 || n > len(q.Args) {
			failed = fmt.Errorf("there is no parameter %s", name)
			return name
		}
		s, err := literal(q.Args[n-1])
		if err != nil {
			failed = err
		}
		return s
	})
	if failed != nil {
		return "", fmt.Errorf("write a query as text: %w", failed)
	}
	return text, nil
}

// literal writes one value. Its SQL type follows it in the statement.
func literal(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return quoted(v)
	case bool:
		return truthSQL(v), nil
	case int64:
		return "(" + strconv.FormatInt(v, 10) + ")", nil
	case time.Time:
		if !writable(v) {
			return "", fmt.Errorf("a time of the year %d", v.Year())
		}
		return quoted(authz.FormatTime(v))
	case []string:
		all := make([]string, len(v))
		for i, s := range v {
			var err error
			if all[i], err = quoted(s); err != nil {
				return "", err
			}
		}
		return "ARRAY[" + strings.Join(all, ", ") + "]", nil
	}
	return "", fmt.Errorf("a value of type %T", v)
}

// quoted writes a text as an escape string of Postgres, of which only letters,
// digits and a few plain signs stand for themselves.
func quoted(s string) (string, error) {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("a text that is not UTF-8, or holds NUL")
	}
	var b strings.Builder
	b.WriteString("E'")
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-_.:", r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('\'')
	return b.String(), nil
}
