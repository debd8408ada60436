package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"chartgate/internal/postgres/pgtest"
)

// statement matches SQL that Postgres can prepare.
var statement = regexp.MustCompile(`^(?i)\s*(--.*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\s`)

// staging matches statements about the tables that an import makes for itself:
// the tests of roster run them.
var staging = regexp.MustCompile(`\broster_[a-z]`)

// Every statement that stands as a constant in a sql*.go file is one that
// Postgres can prepare against the migrated schema: a column that was renamed
// is found here and not by a user.
func TestEveryStatementCanBePrepared(t *testing.T) {
	pool := pgtest.Pool(t)
	files, err := filepath.Glob("*/sql*.go")
	if err != nil {
		t.Fatal(err)
	}
	prepared := 0
	rooms := map[string]map[string]ast.Expr{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		room := filepath.Dir(name)
		if rooms[room] == nil {
			rooms[room] = map[string]ast.Expr{}
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for i, n := range v.Names {
					if i < len(v.Values) {
						rooms[room][n.Name] = v.Values[i]
					}
				}
			}
		}
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for room, constants := range rooms {
		for name, value := range constants {
			text, ok := textOf(value, constants)
			if !ok || !statement.MatchString(text) || staging.MatchString(text) || strings.Contains(text, "%s") {
				continue
			}
			if _, err := conn.Conn().Prepare(t.Context(), fmt.Sprintf("s%d", prepared), text); err != nil {
				t.Errorf("%s: %s: %v", room, name, err)
			}
			prepared++
		}
	}
	if prepared < 40 {
		t.Errorf("only %d statements were found", prepared)
	}
}

// textOf evaluates a constant of strings.
func textOf(e ast.Expr, constants map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		if value, ok := constants[e.Name]; ok {
			return textOf(value, constants)
		}
	case *ast.BinaryExpr:
		a, first := textOf(e.X, constants)
		b, second := textOf(e.Y, constants)
		return a + b, first && second && e.Op == token.ADD
	case *ast.ParenExpr:
		return textOf(e.X, constants)
	}
	return "", false
}
