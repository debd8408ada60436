package release

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// words finds words that can never be: a rule that compares a fact with a word
// that the schema does not list would hold never, or always. It follows words
// through names of one's own, through the arguments of functions, through the
// values of rules, and out of the tables.
func (in *inspection) words(context.Context) ([]Finding, string, error) {
	r := &reader{in: in, summaries: map[string]*values{}, found: map[string]Finding{}}
	r.codes()
	r.miscoded = len(r.found) > 0
	for _, rule := range in.compiledRules() {
		if len(rule.Head.Args) == 0 {
			r.read(rule, nil)
		}
	}
	keys := slices.SortedFunc(maps.Keys(r.found), func(a, b string) int {
		x, y := r.found[a], r.found[b]
		if c := strings.Compare(x.File, y.File); c != 0 {
			return c
		}
		return x.Line - y.Line
	})
	var all []Finding
	for _, key := range keys {
		all = append(all, r.found[key])
	}
	return all, fmt.Sprintf("%d words", r.looked), nil
}

// compiledRules are the rules as the compiler left them, in the order of files.
func (in *inspection) compiledRules() []*ast.Rule {
	modules := in.engine.Source().Compiler.Modules
	var all []*ast.Rule
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		for _, rule := range modules[name].Rules {
			for r := rule; r != nil; r = r.Else {
				all = append(all, r)
			}
		}
	}
	return all
}

// reader reads rules for words.
type reader struct {
	in        *inspection
	summaries map[string]*values // of rules, by name
	found     map[string]Finding
	miscoded  bool // a code is misspelt in a rule: that the table has another is no news
	looked    int
	depth     int
}

// values is what is known of the words that something can be.
type values struct {
	words   []mention // that it is compared with, or that it is
	domains []domain  // each of which it must keep to
}

// mention is a word, and where it is written.
type mention struct {
	word string
	at   func(text, hint string) Finding
}

// domain is the words that something can be.
type domain struct {
	of      string // such as input.client.status
	words   []string
	pattern *regexp.Regexp // instead of words
}

func (d domain) has(word string) bool {
	if d.pattern != nil {
		return d.pattern.MatchString(word)
	}
	return slices.Contains(d.words, word)
}

// summary is what is known of a rule's value, or of the elements of its set:
// where every one of its rules says which words it can be, these.
func (r *reader) summary(name string, rules []*ast.Rule) *values {
	if known, ok := r.summaries[name]; ok {
		return known
	}
	r.summaries[name] = &values{}
	all := domain{of: strings.TrimPrefix(name, "data.")}
	for _, rule := range rules {
		known := r.read(rule, nil)
		switch {
		case len(known.domains) > 0 && known.domains[0].pattern == nil:
			all.words = append(all.words, known.domains[0].words...)
		case len(known.words) > 0:
			for _, w := range known.words {
				all.words = append(all.words, w.word)
			}
		default:
			return r.summaries[name]
		}
	}
	r.summaries[name] = &values{domains: []domain{all}}
	return r.summaries[name]
}

// known is what is known of a node, its paths looked up.
func (s *scope) known(n *node) *values {
	n = n.end()
	out := &values{words: slices.Clone(n.words), domains: slices.Clone(n.domains)}
	for _, p := range n.paths {
		parts := strings.Split(p, "/")
		if d, ok := s.r.domainAt(parts); ok {
			out.domains = append(out.domains, d)
		}
		if parts[0] == "data" {
			out.words = append(out.words, s.r.wordsAt(parts[1:])...)
		}
	}
	return out
}

// domainAt is what a schema says of a place: the words that it can be, or how
// they look. The name of an action is one of the table of actions.
func (r *reader) domainAt(parts []string) (domain, bool) {
	d := domain{of: strings.ReplaceAll(strings.Join(parts, "."), "."+element, "")}
	if d.of == "input.action.name" {
		actions, _ := dataAt(r.in.bundle.Data, ast.MustParseRef("x.tables.actions")[1:]).(map[string]any)
		d.words = slices.Sorted(maps.Keys(actions))
		return d, true
	}
	var schema map[string]any
	switch {
	case parts[0] == "input":
		schema = within(r.in.bundle.Schemas["input"], parts[1:])
	case len(parts) > 2 && parts[1] == "tables":
		schema = within(r.in.bundle.Schemas["tables"], parts[2:])
	}
	if d.words = wordsOf(schema); d.words != nil {
		return d, true
	}
	if p, ok := schema["pattern"].(string); ok {
		var err error
		d.pattern, err = regexp.Compile(p)
		return d, err == nil
	}
	return d, false
}

// wordsAt are the words that stand at a place of the data.
func (r *reader) wordsAt(parts []string) []mention {
	var out []mention
	var walk func(v any, at, rest []string)
	walk = func(v any, at, rest []string) {
		if len(rest) == 0 {
			if w, ok := v.(string); ok {
				out = append(out, mention{w, r.inData(at)})
			}
			return
		}
		switch part := rest[0]; v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				switch part {
				case keys:
					out = append(out, mention{name, r.inData(append(slices.Clone(at), name))})
				case element, name:
					walk(v[name], append(slices.Clone(at), name), rest[1:])
				}
			}
		case []any:
			for i, one := range v {
				if part == element {
					walk(one, append(slices.Clone(at), fmt.Sprint(i)), rest[1:])
				}
			}
		}
	}
	walk(r.in.bundle.Data, nil, parts)
	return out
}

func (r *reader) inData(at []string) func(text, hint string) Finding {
	return func(text, hint string) Finding {
		file, line, column := r.in.lineOf(at)
		return r.in.onLine(file, line, column, text, hint)
	}
}

// judge finds the words that are none of those that they are compared with. An
// empty text is never misspelt: rules ask for it to see that something is there.
func (s *scope) judge() {
	seen := map[*node]bool{}
	for i := 0; i < len(s.all); i++ {
		n := s.all[i].end()
		if seen[n] {
			continue
		}
		seen[n] = true
		for _, c := range n.children {
			s.all = append(s.all, c)
		}
		known := s.known(n)
		for _, w := range known.words {
			for _, d := range known.domains {
				s.r.looked++
				if w.word != "" && !d.has(w.word) {
					s.r.tell(w, d)
				}
			}
		}
	}
}

func (r *reader) tell(w mention, d domain) {
	text, hint := fmt.Sprintf("`%s` is none of the words that `%s` can be", w.word, d.of), didYouMean(w.word, d.words)
	if strings.HasPrefix(d.of, "authz.") {
		if r.miscoded {
			return
		}
		set := "denials"
		if d.of == "authz.bases" {
			set = "bases"
		}
		text, hint = fmt.Sprintf("no rule gives the answer `%s`", w.word),
			fmt.Sprintf("write `%s contains %q if …` in authz/authz.rego, or take it out of the table", set, w.word)
	}
	if d.pattern != nil {
		text, hint = fmt.Sprintf("`%s` is not how `%s` is written", w.word, d.of), "times are written as 2026-03-02T10:00:00.000000Z"
	}
	f := w.at(text, hint)
	if key := f.Place() + w.word; r.found[key].Text == "" {
		r.found[key] = f
	}
}

// codes finds bases and denials that are in no order: no answer could carry them.
func (r *reader) codes() {
	for list, names := range map[string][]string{"bases": {"data.authz.bases"}, "denials": {"data.authz.denials", "data.authz._refusals"}} {
		var ordered []string
		for _, w := range r.wordsAt([]string{"tables", "order", list, element}) {
			ordered = append(ordered, w.word)
		}
		for _, name := range names {
			for _, rule := range r.in.engine.Source().Compiler.GetRulesExact(ast.MustParseRef(name)) {
				if rule.Head.Key == nil {
					continue
				}
				code, ok := rule.Head.Key.Value.(ast.String)
				if !ok || slices.Contains(ordered, string(code)) {
					continue
				}
				f := r.in.at(rule.Head.Key.Location, fmt.Sprintf("`%s` is not in tables/order under %s", string(code), list), didYouMean(string(code), ordered)).of(rule)
				r.found[f.Place()+string(code)] = f
			}
		}
	}
}
