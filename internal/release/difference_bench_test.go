package release

import (
	"os"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/pdp"
)

// measured also says how much processor time one operation takes.
func measured(b *testing.B, work func() error) {
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := cpu()
	for b.Loop() {
		if err := work(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-before).Seconds()/float64(b.N), "cpu-s/op")
}

// BenchmarkDifference compares the shipped policy with one that forgot the end
// of a grant, which touches seventeen actions, and with itself under another
// name. Each is to take less than ten seconds on two cores.
func BenchmarkDifference(b *testing.B) {
	shipped, err := pdp.ReadFolder(os.DirFS(policies))
	if err != nil {
		b.Fatal(err)
	}
	forgot, err := pdp.ReadFolder(edited(b, "rules/grants/grants.rego", "\tinput.context.latest < input.grant.expires_at\n", ""))
	if err != nil {
		b.Fatal(err)
	}
	other, err := pdp.ReadFolder(edited(b, "rules/grants/grants.rego", "\t_in_force\n\t_scope_views\n\tinput", "\t_scope_views\n\t_in_force\n\tinput"))
	if err != nil {
		b.Fatal(err)
	}
	for name, to := range map[string]*pdp.Bundle{"forgotten end": forgot, "reordered": other, "itself": shipped} {
		b.Run(name, func(b *testing.B) {
			measured(b, func() error { _, err := Diff(b.Context(), shipped, to); return err })
		})
	}
	b.Run("properties", func(b *testing.B) {
		measured(b, func() error { _, err := Prove(b.Context(), shipped); return err })
	})
}
