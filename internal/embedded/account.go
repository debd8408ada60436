//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom the server runs as: this process's own user, or, since
// Postgres refuses root, a user without rights.
type account struct {
	name     string
	uid, gid uint32
	other    bool // another user than this process's
}

// serverUser chooses the account. For root it is "postgres", which the package
// makes, else "nobody"; initdb needs one that has an entry in passwd.
func serverUser() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("postgres does not run as root, and there is neither a user 'postgres' nor 'nobody' to run it as")
}

// attributes are those of the server's process: its account, a process group
// of its own so that Ctrl-C reaches this process first, and its end with this
// process where the system can do that.
func (a account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	endWithParent(attributes)
	return attributes
}

// give makes the account the owner of a folder.
func (a account) give(folder string) error {
	if !a.other {
		return nil
	}
	return os.Chown(folder, int(a.uid), int(a.gid))
}

// mayEnter returns an error that names the first folder on the way to path
// which the account cannot pass, /root for example.
func (a account) mayEnter(path string) error {
	if !a.other {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("folder of the database: %w", err)
	}
	for folder := path; ; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil {
			return fmt.Errorf("folder of the database: %w", err)
		}
		needed := os.FileMode(0o001)
		if owned, ok := info.Sys().(*syscall.Stat_t); ok {
			if owned.Uid == a.uid {
				needed = 0o100
			} else if owned.Gid == a.gid {
				needed = 0o010
			}
		}
		if info.Mode()&needed == 0 {
			return fmt.Errorf("the database runs as user %s, who cannot enter %s: choose another folder, such as one under /var/lib", a.name, folder)
		}
		if folder == filepath.Dir(folder) {
			return nil
		}
	}
}
