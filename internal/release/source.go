package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// The largest source of a draft.
const (
	maxSource      = 4 << 20 // bytes of all files together
	maxSourceFiles = 1000
	maxSourcePath  = 99 // bytes: what a tar keeps in one piece
)

// Source is a folder of policies, as a draft keeps it: rules, tables, schemas,
// cases, properties, tests and what explains them, by path.
type Source map[string][]byte

// sourceKinds are the endings of what belongs into a folder of policies.
var sourceKinds = []string{".rego", ".yaml", ".json", ".md"}

// ReadSource takes files by path, and refuses what is no folder of policies.
// Files that begin with a dot are about a checkout and refused too.
func ReadSource(files map[string]string) (Source, error) {
	s := make(Source, len(files))
	for name, text := range files {
		s[name] = []byte(text)
	}
	return s, s.check()
}

// ReadSourceArchive takes a folder of policies as a .tar.gz.
func ReadSourceArchive(archive []byte) (Source, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, sourceFault("", "is no .tar.gz")
	}
	s := Source{}
	bounded := &io.LimitedReader{R: unzipped, N: 2 * maxSource} // headers and padding included
	for files := tar.NewReader(bounded); ; {
		header, err := files.Next()
		if err == io.EOF && bounded.N > 0 {
			return s, s.check()
		}
		if bounded.N <= 0 || len(s) > maxSourceFiles {
			return nil, sourceTooLarge()
		}
		if err != nil {
			return nil, sourceFault("", "is no whole .tar.gz")
		}
		name := strings.TrimPrefix(strings.TrimPrefix(header.Name, "./"), "/")
		switch {
		case header.Typeflag == tar.TypeDir:
			continue
		case header.Typeflag != tar.TypeReg:
			return nil, sourceFault(name, "is no plain file")
		case s[name] != nil:
			return nil, sourceFault(name, "is in it twice")
		}
		text, err := io.ReadAll(files)
		if err != nil {
			return nil, sourceFault("", "is no whole .tar.gz")
		}
		s[name] = append([]byte{}, text...)
	}
}

// ReadSourceFolder reads a folder of policies; what does not belong into one is
// left out.
func ReadSourceFolder(folder fs.FS) (Source, error) {
	s := Source{}
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !slices.Contains(sourceKinds, path.Ext(name)) {
			return nil
		}
		s[name], err = fs.ReadFile(folder, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return s, s.check()
}

func (s Source) check() error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(s)) {
		size += len(s[name])
		switch {
		case !fs.ValidPath(name) || name == "." || len(name) > maxSourcePath || strings.ContainsFunc(name, oddInPath):
			return sourceFault(name, "is no path inside of a folder")
		case strings.HasPrefix(name, ".") || strings.Contains(name, "/."):
			return sourceFault(name, "begins with a dot")
		case !slices.Contains(sourceKinds, path.Ext(name)):
			return sourceFault(name, "does not belong into a folder of policies: "+strings.Join(sourceKinds, ", ")+" do")
		case !utf8.Valid(s[name]):
			return sourceFault(name, "is not UTF-8")
		}
	}
	switch {
	case len(s) == 0:
		return sourceFault("", "holds no file")
	case size > maxSource || len(s) > maxSourceFiles:
		return sourceTooLarge()
	}
	return nil
}

// oddInPath: what a file's name may not hold, so that it is the same on every
// system that it is unpacked on.
func oddInPath(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`\:*?"<>|`, r) }

func sourceFault(name, what string) error {
	pointer, subject := "/files", "the source"
	if name != "" {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(strings.ToValidUTF8(name, "?"))
		subject = strings.ToValidUTF8(name, "?")
	}
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: subject + " " + what,
		Fields: []authz.Field{{Pointer: pointer, Detail: what}}}
}

func sourceTooLarge() error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "too-large", Status: 413,
		Detail: fmt.Sprintf("a source may hold %d files and %d bytes in all", maxSourceFiles, maxSource)}
}

// Archive returns the source as a .tar.gz, the same for the same files.
func (s Source) Archive() ([]byte, error) { return pack(s) }

// Texts returns the source as texts by path.
func (s Source) Texts() map[string]string {
	texts := make(map[string]string, len(s))
	for name, text := range s {
		texts[name] = string(text)
	}
	return texts
}

// Folder returns the source as a file system: an archive in memory, which the
// standard library can read as one.
func (s Source) Folder() (fs.FS, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(s)) {
		file, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = file.Write(s[name])
		}
		if err != nil {
			return nil, fmt.Errorf("source: %s: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	folder, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return folder, nil
}

// build makes the bundle of a source, and its content digest.
func (s Source) build() (archive []byte, content string, err error) {
	folder, err := s.Folder()
	if err != nil {
		return nil, "", err
	}
	if archive, err = Build(folder); err != nil {
		return nil, "", err
	}
	content, err = contentOf(archive)
	return archive, content, err
}

// contentOf is the content digest of a bundle.
func contentOf(archive []byte) (string, error) {
	files, err := pdp.Unpack(archive)
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	return pdp.Content(files), nil
}
