//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrInUse: another process holds the folder.
var ErrInUse = errors.New("in use")

// Lock holds a folder for this process until Unlock, or until the process
// ends, however it ends. If another one holds it the error is ErrInUse and
// names that process.
func Lock(folder string) (*Locked, error) {
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(file, 32))
		file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", folder, err)
		}
		return nil, fmt.Errorf("%s is %w by another process (pid %s)", folder, ErrInUse, strings.TrimSpace(string(holder)))
	}
	if err := errors.Join(file.Truncate(0), writeAt(file, fmt.Sprintln(os.Getpid()))); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	return &Locked{file}, nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// Locked is a folder that this process holds.
type Locked struct{ file *os.File }

// Unlock lets others have the folder. The lock's file stays: removing it would
// let two processes hold two files of the same name.
func (l *Locked) Unlock() error { return l.file.Close() }
