package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const asSidecar = "CHARTGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asSidecar) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// refused runs the program, which must fail, and returns what it says.
func refused(t *testing.T, env []string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], arguments...)
	cmd.Env = append([]string{asSidecar + "=1", "PATH=" + os.Getenv("PATH")}, env...)
	said, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("%v worked: %s", arguments, said)
	}
	return string(said)
}

// The sidecar takes no unsigned policy: neither by a flag nor by the variables
// of `chartgate run`.
func TestNoUnsignedBundle(t *testing.T) {
	for _, flag := range []string{"--bundle=policies", "--decision=data.authzen.allow"} {
		if said := refused(t, nil, flag); !strings.Contains(said, "unknown flag") {
			t.Errorf("%s: it says %s", flag, said)
		}
	}
	if said := refused(t, []string{"CHARTGATE_BUNDLE=/nowhere"}); strings.Contains(said, "nowhere") {
		t.Errorf("CHARTGATE_BUNDLE was read: %s", said)
	}
}

// All that is wrong is told at once.
func TestFaultsAreToldTogether(t *testing.T) {
	said := refused(t, []string{"CHARTGATE_API_KEY=short"}, "--addr", "8181", "--public-url", "pdp.example.com", "--jwt-audience", "x", "--max-bulk=-1")
	for _, name := range []string{"DATABASE_URL", "CHARTGATE_API_KEY", "--addr", "--public-url", "--jwks-url", "--max-bulk"} {
		if !strings.Contains(said, name) {
			t.Errorf("it does not name %s:\n%s", name, said)
		}
	}
	said = refused(t, []string{"DATABASE_URL=postgres://nobody:secret@127.0.0.1:1/none"}, "--addr", "127.0.0.1:0")
	if !strings.Contains(said, "database") || strings.Contains(said, "secret") {
		t.Errorf("a database that is not there: it says %s", said)
	}
}
