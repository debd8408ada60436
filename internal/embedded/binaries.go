package embedded

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// oldest is the lowest major version of Postgres that the schema runs on.
const oldest = 15

// binaries are the server programs of one installed Postgres.
type binaries struct{ initdb, postgres string }

// findBinaries looks in $PG_BIN, then where Debian, Homebrew and Postgres.app
// put them, then in PATH. A cluster that exists already is opened by its own
// major version (wanted, "" for a new one), since no other can read it.
func findBinaries(wanted string) (binaries, error) {
	var folders []string
	if folder := os.Getenv("PG_BIN"); folder != "" {
		folders = []string{folder}
	} else {
		for _, pattern := range []string{
			"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		} {
			found, _ := filepath.Glob(pattern) // the only error is a bad pattern
			folders = append(folders, newestFirst(found, wanted)...)
		}
		if path, err := exec.LookPath("postgres"); err == nil {
			folders = append(folders, filepath.Dir(path))
		}
	}
	for _, folder := range folders {
		found := binaries{initdb: filepath.Join(folder, "initdb"), postgres: filepath.Join(folder, "postgres")}
		if isProgram(found.initdb) && isProgram(found.postgres) {
			return found, nil
		}
	}
	if folder := os.Getenv("PG_BIN"); folder != "" {
		return binaries{}, fmt.Errorf("PG_BIN=%s holds no initdb and postgres", folder)
	}
	return binaries{}, fmt.Errorf("no Postgres server is installed (version %d or newer): 'apt-get install -y postgresql' "+
		"(macOS: 'brew install postgresql@17'), or set DATABASE_URL, or use 'docker compose up'", oldest)
}

// newestFirst sorts folders by the version number in their path, the wanted
// version before all others, and drops those that are too old.
func newestFirst(folders []string, wanted string) []string {
	rank := func(folder string) int {
		version := majorIn(folder)
		if wanted != "" && strconv.Itoa(version) == wanted {
			return 1 << 20
		}
		return version
	}
	folders = slices.DeleteFunc(folders, func(folder string) bool { v := majorIn(folder); return v > 0 && v < oldest })
	slices.SortStableFunc(folders, func(a, b string) int { return cmp.Compare(rank(b), rank(a)) })
	return folders
}

// majorIn returns the last number in the name of the folder that holds bin:
// 15 of /usr/lib/postgresql/15/bin, 0 when there is none.
func majorIn(folder string) int {
	name := filepath.Base(filepath.Dir(folder))
	digits := strings.TrimLeftFunc(name, func(r rune) bool { return r < '0' || r > '9' })
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	version, _ := strconv.Atoi(digits) // no number is 0
	return version
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
