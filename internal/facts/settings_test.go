package facts

import (
	"fmt"
	"testing"

	"chartgate/internal/authz"
)

// Settings of the same text are one, those of another text are others, and no
// more are kept than there is room for.
func TestSettingsAreReadOnce(t *testing.T) {
	read := func(preset, overrides string) *authz.Settings {
		t.Helper()
		s, err := readSettings(preset, []byte(overrides))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain, other := read("seed", ""), read("seed", `{"admin_record_access": "list_only"}`)
	if plain == other || other.Text("admin_record_access") != "list_only" {
		t.Error("two texts are the same settings")
	}
	if read("seed", "") != plain || read("seed", `{"admin_record_access": "list_only"}`) != other {
		t.Error("the same text is read again")
	}
	for range 2 {
		if _, err := readSettings("seed", []byte(`{"admin_record_access": "no such"}`)); err == nil {
			t.Error("bad settings were read")
		}
	}
	for i := range maxSettingsRead + 10 {
		read("seed", fmt.Sprintf(`{"admin_record_access":%*s"list_only"}`, i, ""))
	}
	if n := len(settingsRead.by); n > maxSettingsRead {
		t.Errorf("%d are kept", n)
	}
}
