// Package internal holds no code: only the test of the house's map.
package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "chartgate/"

// floors is the house from the ground up: a room may import rooms of lower
// floors only. A new line here is a design decision.
var floors = [][]string{
	{"internal/authz", "bundles", "policies", "policies/properties", "testdata/demo"},
	{"internal/postgres", "internal/web", "internal/embedded", "internal/compile", "internal/wire"},
	{"internal/feed"},
	{"internal/pdp", "internal/facts", "internal/record"},
	{"internal/grants", "internal/profiles", "internal/release", "internal/roster", "internal/search"},
	{"internal/sidecar", "internal/control", "internal/console"},
	{"cmd"},
}

// never lists what a room must not reach, directly or through others.
var never = map[string][]string{
	"internal/sidecar":  {"internal/grants", "internal/profiles", "internal/release", "internal/roster", "internal/control"},
	"internal/profiles": {"internal/pdp", "internal/facts", "internal/release", "internal/compile", "internal/search"},
	"internal/grants":   {"internal/pdp", "internal/facts", "internal/release", "internal/compile"},
}

// guests says which rooms a foreign library may be used in.
var guests = map[string][]string{
	"github.com/gofiber/fiber":            {"internal/web", "internal/sidecar", "internal/control", "internal/console", "cmd"},
	"github.com/open-policy-agent/opa":    {"internal/pdp", "internal/release", "internal/compile"},
	"github.com/jackc/pgx":                {"internal/postgres", "internal/web", "internal/feed", "internal/facts", "internal/record", "internal/grants", "internal/profiles", "internal/release", "internal/roster", "internal/search", "internal/control", "cmd"},
	"github.com/redis/go-redis":           {"internal/facts", "internal/feed", "cmd"},
	"github.com/tidwall/redcon":           {"internal/facts"},
	"github.com/alicebob/miniredis":       {"internal/embedded"},
	"github.com/pressly/goose":            {"internal/postgres"},
	"github.com/lestrrat-go/jwx":          {"internal/web", "internal/release"},
	"github.com/prometheus/client_golang": {"internal/web", "internal/sidecar", "internal/control", "cmd"},
}

// testSupport is used by tests only, so it is held to no floor, as they are not.
var testSupport = []string{"pgtest", "policytest"}

func TestRoomsImportDownwardOnly(t *testing.T) {
	imports := parseImports(t)
	if len(imports) < 5 {
		t.Fatalf("only %d rooms were found", len(imports))
	}
	for room, targets := range imports {
		floor := floorOf(room)
		if floor < 0 {
			t.Errorf("%s stands on no floor of the house: give it one", room)
			continue
		}
		for target := range targets {
			if !strings.HasPrefix(target, module) {
				continue
			}
			target = strings.TrimPrefix(target, module)
			if below := floorOf(target); below < 0 || (below >= floor && topRoom(target) != topRoom(room)) {
				t.Errorf("%s imports %s, which is not below it", room, target)
			}
		}
	}
}

func TestRoomsNeverReach(t *testing.T) {
	imports := parseImports(t)
	for room, forbidden := range never {
		seen := map[string]bool{}
		var walk func(string)
		walk = func(from string) {
			if seen[from] {
				return
			}
			seen[from] = true
			for target := range imports[from] {
				if strings.HasPrefix(target, module) {
					walk(strings.TrimPrefix(target, module))
				}
			}
		}
		walk(room)
		for _, target := range forbidden {
			if seen[target] {
				t.Errorf("%s reaches %s", room, target)
			}
		}
	}
}

func TestGuestsStayInTheirRooms(t *testing.T) {
	for room, targets := range parseImports(t) {
		for target := range targets {
			for guest, rooms := range guests {
				if strings.HasPrefix(target, guest) && !slices.Contains(rooms, topRoom(room)) {
					t.Errorf("%s imports %s, which may be used in %v only", room, target, rooms)
				}
			}
		}
	}
}

// parseImports reads what every package imports from its source, test files
// left out: the files themselves, so that a cached build cannot hide a line.
func parseImports(t *testing.T) map[string]map[string]bool {
	t.Helper()
	root := ".."
	imports := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != root && strings.HasPrefix(base, ".") || slices.Contains(testSupport, base) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		if imports[room] == nil {
			imports[room] = map[string]bool{}
		}
		for _, spec := range file.Imports {
			imports[room][strings.Trim(spec.Path.Value, `"`)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}

// topRoom is the room that a folder belongs to: "internal/postgres" for
// "internal/postgres/pgtest".
func topRoom(dir string) string {
	parts := strings.Split(filepath.ToSlash(dir), "/")
	if parts[0] == "cmd" || len(parts) == 1 {
		return parts[0]
	}
	return parts[0] + "/" + parts[1]
}

func floorOf(dir string) int {
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, topRoom(dir)) })
}
