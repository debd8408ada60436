package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
)

// Reads lists the places of the facts document that a decision may read, by
// OPA's own account, and what it reads under input that no facts document
// holds.
func Reads(source Source, decision string) (places, unknown []string, err error) {
	refs, err := dependencies.Base(source.Compiler, ast.MustParseRef(decision))
	if err != nil {
		return nil, nil, fmt.Errorf("what %s reads: %w", decision, err)
	}
	odd := map[string]bool{}
	for _, ref := range refs {
		if !ref[0].Equal(ast.InputRootDocument) {
			continue
		}
		path := strings.TrimPrefix(strings.TrimPrefix(ref.GroundPrefix().String(), "input"), ".")
		if !held(path) {
			odd[path] = true
		}
	}
	return placesRead(refs), slices.Sorted(maps.Keys(odd)), nil
}

// held reports whether a facts document can hold something at path, or under
// it. Whatever lies within a property is the caller's.
func held(path string) bool {
	if path == "" {
		return true
	}
	for known, d := range shape {
		if known == path || strings.HasPrefix(known, path+".") {
			return true
		}
		if (d.form == formAny || d.form == formTexts) && strings.HasPrefix(path, known+".") {
			return true
		}
	}
	return false
}
