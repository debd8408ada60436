// Package embedded gives `chartgate run` and the tests the two stores they
// need: a private Postgres, started from the server binaries that are
// installed, and a Redis inside this process.
//
// It promises: the server listens on a unix socket in its own folder and on no
// port; it ends with the process that started it, also when that is killed
// (Linux); a folder is used by one process at a time (Lock). It does not
// promise what production needs: backups, other hosts, upgrades.
// TestKilledParentLeavesNoServer and TestLockHoldsOneProcess prove it.
package embedded
