package roster

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// File is one file to import. It may be opened more than once.
type File struct {
	Name string // in faults and progress
	Open func() (fs.File, error)

	kind   *kind
	ndjson bool
}

// Folder returns the files of a folder that can be imported: practices,
// members, clients and grants, each .csv, .ndjson or .jsonl. A name may go on
// after "-", "_" or "." (clients-2.csv). A CSV or NDJSON file of another name
// is an error; every other file is left alone.
func Folder(fsys fs.FS) ([]File, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	var files []File
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !importable(name) {
			continue
		}
		f, err := fileNamed(name, func() (fs.File, error) { return fsys.Open(name) })
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, errors.New("the folder holds none of practices, members, clients, grants as .csv or .ndjson")
	}
	return inOrder(files), nil
}

// Paths returns the files at paths: files, and folders as Folder reads them.
func Paths(paths ...string) ([]File, error) {
	if len(paths) == 0 {
		return nil, errors.New("name a folder or files to import")
	}
	var files []File
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			found, err := Folder(os.DirFS(p))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			for i := range found {
				found[i].Name = filepath.Join(p, found[i].Name)
			}
			files = append(files, found...)
			continue
		}
		f, err := fileNamed(p, func() (fs.File, error) { return os.Open(p) })
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return inOrder(files), nil
}

func importable(name string) bool {
	return slices.Contains([]string{".csv", ".ndjson", ".jsonl"}, strings.ToLower(path.Ext(name)))
}

// fileNamed tells the kind of a file by its name.
func fileNamed(name string, open func() (fs.File, error)) (File, error) {
	base := filepath.Base(name)
	if !importable(base) {
		return File{}, fmt.Errorf("%s: want a file that ends in .csv, .ndjson or .jsonl", name)
	}
	word, _, _ := strings.Cut(strings.NewReplacer("-", ".", "_", ".").Replace(base), ".")
	k := kindOf(strings.ToLower(word))
	if k == nil {
		return File{}, fmt.Errorf("%s: the name must begin with practices, members, clients or grants, to say what is in it", name)
	}
	return File{Name: name, Open: open, kind: k, ndjson: !strings.EqualFold(path.Ext(base), ".csv")}, nil
}

// inOrder sorts files by kind, so that the order in which they were named does
// not matter.
func inOrder(files []File) []File {
	slices.SortStableFunc(files, func(a, b File) int {
		return cmp.Compare(slices.Index(kinds, a.kind), slices.Index(kinds, b.kind))
	})
	return files
}

// counted counts the bytes that were read, for the progress.
type counted struct {
	io.Reader
	bytes int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	return n, err
}
