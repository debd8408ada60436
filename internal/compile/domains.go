package compile

import (
	"reflect"
	"slices"
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// domain is values that a place can have: at least one of each class, where no
// test of the policy tells apart the values of a class.
type domain []any

// absent stands for no value, to be told from a JSON null.
var absent = absentValue{}

type absentValue struct{}

// domainOf lists the values that a place may be given: the constants that it is
// compared with, an unknown one, the odd ones, and absence where it can be.
func domainOf(path string, constants []ast.Value) domain {
	var d domain
	words := []string{}
	for _, c := range constants {
		if s, ok := c.(ast.String); ok && !slices.Contains(words, string(s)) {
			words = append(words, string(s))
		}
	}
	text := func() {
		for _, w := range words {
			d = append(d, w)
		}
	}
	if s, ok := settingOf(path); ok {
		return settingDomain(s, constants)
	}
	switch shape[path].form {
	case formBool:
		return domain{false, true}
	case formAny:
		d = append(d, absent, unknownWord, "")
		text()
		d = append(d, false)
		d = append(d, oddities...)
		for _, c := range constants {
			if n, ok := c.(ast.Number); ok {
				if i, ok := n.Int64(); ok {
					d = append(d, i)
				}
			}
		}
		return d
	}
	text()
	if !slices.Contains(words, "") {
		d = append(d, "") // of client.assigned and the context: absent
	}
	return append(d, unknownWord)
}

// blankIsAbsent reports that authz.Document leaves an empty text out.
func blankIsAbsent(path string) bool {
	switch path {
	case "client.assigned", "portal.relationship", "context.purpose", "context.portal_profile":
		return true
	}
	return false
}

func settingOf(path string) (authz.Setting, bool) {
	name, ok := strings.CutPrefix(path, "settings.")
	i := slices.IndexFunc(authz.Catalogue, func(s authz.Setting) bool { return s.Name == name })
	if !ok || i < 0 {
		return authz.Setting{}, false
	}
	return authz.Catalogue[i], true
}

// settingDomain lists what a setting can be: what authz.NewSettings, the one
// function that makes settings, keeps of every value that the catalogue allows.
// That there is nothing else is tried by certifier.settings.
func settingDomain(s authz.Setting, constants []ast.Value) domain {
	var said []any
	switch s.Default.(type) {
	case bool:
		said = []any{false, true}
	case string:
		for _, w := range s.Allowed {
			said = append(said, w)
		}
	case int64:
		said = append(said, s.Min, s.Max)
		for _, c := range constants {
			if n, ok := c.(ast.Number); ok {
				i, _ := n.Int64()
				said = append(said, i-1, i, i+1)
			}
		}
	default:
		for _, list := range subsets(s.Allowed) {
			said = append(said, list)
		}
	}
	var d domain
	for _, v := range said {
		made, err := authz.NewSettings(authz.DefaultPreset, map[string]any{s.Name: s.Write(v)})
		if err != nil {
			continue // a number out of range
		}
		kept := made.Value(s.Name)
		if !slices.ContainsFunc(d, func(known any) bool { return reflect.DeepEqual(known, kept) }) {
			d = append(d, kept)
		}
	}
	return d
}
