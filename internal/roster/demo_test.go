package roster_test

import (
	"testing"

	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"
	"chartgate/testdata/demo"

	"github.com/google/go-cmp/cmp"
)

// TestDemoPractice: the demo is what the README and the examples speak of, and
// control's database role is enough to load it.
func TestDemoPractice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.PoolAs(t, url, postgres.RoleControl)
	files, err := roster.Folder(demo.Files)
	if err != nil {
		t.Fatal(err)
	}
	report := load(t, pool, files)
	want := roster.Report{Practices: roster.Counts{Inserted: 2}, Members: roster.Counts{Inserted: 11},
		Clients: roster.Counts{Inserted: 4}, Grants: roster.Counts{Inserted: 1}}
	if report != want {
		t.Errorf("report: %+v, want %+v", report, want)
	}
	members := texts(t, pool, `SELECT practice, concat_ws(' ', user_id, roles::text, status,
		CASE WHEN owner THEN 'owner' END, CASE WHEN full_clinical_access THEN 'full' END) FROM members`)
	if diff := cmp.Diff([]string{
		"practice-1 admin-1 {administrator} active owner",
		"practice-1 biller-1 {biller} active",
		"practice-1 practitioner-1 {practitioner} active",
		"practice-1 practitioner-2 {practitioner} active",
		"practice-1 practitioner-full {practitioner} active full",
		"practice-1 removed-1 {practitioner} removed",
		"practice-1 scheduler-1 {scheduler} active",
		"practice-1 user-both {practitioner} active",
		"practice-2 admin-2 {administrator} active owner",
		"practice-2 practitioner-3 {practitioner} active",
		"practice-2 user-both {administrator} active",
	}, members); diff != "" {
		t.Error(diff)
	}
	clients := texts(t, pool, `SELECT practice, concat_ws(' ', id, status, assigned) FROM clients`)
	if diff := cmp.Diff([]string{
		"practice-1 client-1 active practitioner-1",
		"practice-1 client-2 active practitioner-2",
		"practice-1 client-3 active",
		"practice-2 client-4 active practitioner-3",
	}, clients); diff != "" {
		t.Error(diff)
	}
	grants := texts(t, pool, `SELECT client, concat_ws(' ', user_id, scope, not_before <= now(), expires_at = '9999-12-31 23:59:59.999999Z') FROM grants`)
	if diff := cmp.Diff([]string{"client-1 practitioner-2 collaborate t t"}, grants); diff != "" {
		t.Error(diff)
	}
	if got := one(t, pool, `SELECT string_agg(concat_ws(' ', practice, actor, action, after), '; ' ORDER BY practice) FROM changes`); got != ""+
		`practice-1 operator-1 import {"grants": {"inserted": 1}, "clients": {"inserted": 3}, "members": {"inserted": 8}, "practices": {"inserted": 1}}; `+
		`practice-2 operator-1 import {"clients": {"inserted": 1}, "members": {"inserted": 3}, "practices": {"inserted": 1}}` {
		t.Errorf("change records: %s", got)
	}
}
