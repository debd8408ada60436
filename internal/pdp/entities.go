package pdp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Entity is something that a policy's data name, so that it can be searched for.
type Entity struct {
	ID         string
	Properties map[string]any // nil where the data say none
}

// Where a policy of one's own says what there is: data.entities.<type> is an
// array (or a set) of ids, or an object keyed by id whose values may be objects
// of properties; data.actions.<resource type> is an array of names.
const (
	entitiesRoot = "entities"
	actionsRoot  = "actions"
)

// Entities returns what the policy names of one type, by id. A type that it does
// not know has none; a policy that names nothing at all is an error, since an
// empty list would look like an answer.
func (e *Engine) Entities(ctx context.Context, typ string) ([]Entity, error) {
	return e.enumerate(ctx, entitiesRoot, typ)
}

// ActionsOn returns the actions that the policy names for one type of resource,
// by name; see Entities.
func (e *Engine) ActionsOn(ctx context.Context, typ string) ([]string, error) {
	found, err := e.enumerate(ctx, actionsRoot, typ)
	names := make([]string, len(found))
	for i, entity := range found {
		names[i] = entity.ID
	}
	return names, err
}

// Actions returns every action that a policy on Chartgate's facts knows, by name.
func (e *Engine) Actions(ctx context.Context) ([]string, error) {
	table, _, err := e.Query(ctx, "data.tables.actions", nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	known, _ := table.(map[string]any)
	if len(known) == 0 {
		return nil, fmt.Errorf("%w: data.tables.actions names no action", authz.ErrUnavailable)
	}
	return slices.Sorted(maps.Keys(known)), nil
}

func (e *Engine) enumerate(ctx context.Context, root, typ string) ([]Entity, error) {
	// The type is the caller's: as a term of the path it is a text, never Rego.
	named := ast.Ref{ast.DefaultRootDocument, ast.StringTerm(root), ast.StringTerm(typ)}.String()
	list, defined, err := e.Query(ctx, named, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	if !defined {
		whole := ast.Ref{ast.DefaultRootDocument, ast.StringTerm(root)}.String()
		if _, some, err := e.Query(ctx, whole, nil); err != nil || some {
			return nil, err
		}
		return nil, &authz.Problem{Kind: authz.ErrUnavailable, Type: "not-enumerated", Status: 501,
			Detail: fmt.Sprintf("this policy cannot be searched: it names nothing under %s.<type>", whole)}
	}
	var found []Entity
	switch list := list.(type) {
	case []any:
		for _, item := range list {
			id, _ := item.(string)
			found = append(found, Entity{ID: id})
		}
	case map[string]any:
		for id, v := range list {
			properties, _ := v.(map[string]any)
			found = append(found, Entity{ID: id, Properties: properties})
		}
	default:
		return nil, fmt.Errorf("%w: %s is neither an array nor an object", authz.ErrUnavailable, named)
	}
	for _, entity := range found {
		if !authz.ValidID(entity.ID) {
			return nil, fmt.Errorf("%w: %s holds something that is no id", authz.ErrUnavailable, named)
		}
	}
	slices.SortFunc(found, func(a, b Entity) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(found, func(a, b Entity) bool { return a.ID == b.ID }), nil
}
