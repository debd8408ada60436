package embedded

import (
	"slices"
	"testing"
)

func TestNewestFirst(t *testing.T) {
	folders := []string{"/usr/lib/postgresql/9/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin", "/opt/homebrew/opt/postgresql@16/bin", "/usr/lib/postgresql/14/bin"}
	for wanted, first := range map[string][]string{
		"":   {"/usr/lib/postgresql/17/bin", "/opt/homebrew/opt/postgresql@16/bin", "/usr/lib/postgresql/15/bin"},
		"15": {"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin", "/opt/homebrew/opt/postgresql@16/bin"},
	} {
		if got := newestFirst(slices.Clone(folders), wanted); !slices.Equal(got, first) {
			t.Errorf("for a cluster of version %q: %v, want %v", wanted, got, first)
		}
	}
}
