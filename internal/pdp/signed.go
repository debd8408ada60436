package pdp

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// SignatureScope is the scope claim of every signature over a bundle, so that
// a signature which the same key made for something else is none.
const SignatureScope = "chartgate"

// Seal is what a signature binds to a bundle beside its files: which release it
// is, who made it and who approved it, and on what evidence. It stands in the
// manifest, as metadata.chartgate.
type Seal struct {
	Release      string `json:"release"`
	Revision     int64  `json:"revision"`                // rises with every signature of a deployment
	Content      string `json:"content"`                 // Content of the files
	Author       string `json:"author"`                  // a person, or "chartgate"
	Approver     string `json:"approver"`                // another person, unless SingleSigner says why not
	Evidence     string `json:"evidence"`                // digest of what the approver saw
	Scope        string `json:"scope"`                   // SignatureScope
	Deployment   string `json:"deployment"`              // whose it is; "" for what ships with the product
	SingleSigner string `json:"single_signer,omitempty"` // why one person was enough
}

// Keys are public keys that sign bundles. Those of a deployment sign for that
// deployment only; the key of the shipped bundle signs nothing but that bundle.
type Keys struct {
	own            map[string]*bundle.KeyConfig // by id
	shipped        map[string]*bundle.KeyConfig
	shippedContent string
}

// KeyID names an Ed25519 public key: the first 16 hex digits of the SHA-256 of
// its DER form (PKIX).
func KeyID(key ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), nil
}

// ReadKeys reads a deployment's public keys from PEM texts, each of which may
// hold several. Without any, no bundle of the deployment is taken.
func ReadKeys(texts ...[]byte) (*Keys, error) {
	k := &Keys{own: map[string]*bundle.KeyConfig{}}
	for _, text := range texts {
		if err := readKeys(k.own, text); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// WithShipped returns k with the key of the bundle that ships with the product,
// which holds for files of this content only: the single signer of that bundle
// is the one named exception to two people (promise P7).
func (k *Keys) WithShipped(text []byte, content string) (*Keys, error) {
	with := &Keys{own: k.own, shipped: map[string]*bundle.KeyConfig{}, shippedContent: content}
	return with, readKeys(with.shipped, text)
}

func readKeys(into map[string]*bundle.KeyConfig, text []byte) error {
	found := 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return fmt.Errorf("key: a PEM block is of type %q: want PUBLIC KEY", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return fmt.Errorf("key: a public key is %T: want Ed25519", parsed)
		}
		id, err := KeyID(key)
		if err != nil {
			return err
		}
		into[id] = &bundle.KeyConfig{Key: string(pem.EncodeToMemory(block)), Algorithm: "EdDSA"}
		found++
	}
	if found == 0 || len(bytes.TrimSpace(text)) > 0 {
		return errors.New("key: want public keys in PEM form (-----BEGIN PUBLIC KEY-----)")
	}
	return nil
}

// Content is the digest of a bundle's files, by their paths without a leading
// slash: which policy it is, whoever signed it. Files whose name begins with a
// dot are about the bundle and left out.
func Content(files map[string][]byte) string {
	digest := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, ".") {
			fmt.Fprintf(digest, "%s %d\n%s", name, len(files[name]), files[name])
		}
	}
	return "sha256:" + hex.EncodeToString(digest.Sum(nil)[:16])
}

// ErrRefused: a bundle cannot be trusted, or is not what it says. Another try
// with the same bytes ends the same way.
var ErrRefused = errors.New("the bundle is refused")

// ReadSigned reads a signed bundle in OPA's format and refuses, with ErrRefused,
// whatever is not whole: too big, truncated, with files that have no place in a
// bundle, signed by no key of keys, for another scope or another deployment, or
// with a content that is not the one that was sealed. Whether the revision is
// the one that is expected is the caller's to say.
func ReadSigned(raw []byte, keys *Keys, deployment string) (*Bundle, Seal, error) {
	b, seal, err := readSigned(raw, keys, deployment)
	if err != nil {
		return nil, Seal{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return b, seal, nil
}

func readSigned(raw []byte, keys *Keys, deployment string) (*Bundle, Seal, error) {
	files, err := Unpack(raw)
	if err != nil {
		return nil, Seal{}, err
	}
	if len(files[".signatures.json"]) == 0 {
		return nil, Seal{}, errors.New("it is not signed")
	}
	own := true
	read, err := verified(raw, keys.own)
	if err != nil && len(keys.shipped) > 0 {
		if shipped, otherwise := verified(raw, keys.shipped); otherwise == nil {
			own, read, err = false, shipped, nil
		}
	}
	if err != nil {
		return nil, Seal{}, err
	}
	seal, err := sealOf(read.Manifest)
	if err != nil {
		return nil, Seal{}, err
	}
	content := Content(files)
	switch {
	case seal.Content != content || read.Manifest.Revision != content:
		return nil, Seal{}, fmt.Errorf("its files are %s, it was sealed as %s (manifest: %s)", content, seal.Content, read.Manifest.Revision)
	case own && (seal.Deployment == "" || seal.Deployment != deployment):
		return nil, Seal{}, fmt.Errorf("it was signed for deployment %q, this is %q", seal.Deployment, deployment)
	case !own && (seal.Deployment != "" || seal.SingleSigner == "" || content != keys.shippedContent):
		return nil, Seal{}, errors.New("the key of the shipped bundle signs no other")
	}
	b, err := fromOPA(read, nil)
	return b, seal, err
}

// verified reads a bundle whose every file is covered by a signature of keys.
func verified(raw []byte, keys map[string]*bundle.KeyConfig) (*bundle.Bundle, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key to verify it with: set --policy-key")
	}
	b, err := bundle.NewReader(bytes.NewReader(raw)).WithSizeLimitBytes(maxBundle).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).
		WithBundleVerificationConfig(bundle.NewVerificationConfig(keys, "", SignatureScope, nil)).Read()
	if err != nil {
		return nil, err
	}
	return &b, nil
}

func sealOf(manifest bundle.Manifest) (Seal, error) {
	var seal Seal
	text, err := json.Marshal(manifest.Metadata["chartgate"])
	if err != nil {
		return seal, fmt.Errorf("seal: %w", err)
	}
	if err := json.Unmarshal(text, &seal); err != nil {
		return seal, fmt.Errorf("seal: %w", err)
	}
	switch {
	case seal.Scope != SignatureScope:
		return seal, fmt.Errorf("seal: its scope is %q, want %q", seal.Scope, SignatureScope)
	case seal.Release == "" || seal.Revision < 1 || seal.Author == "" || seal.Approver == "" || seal.Evidence == "":
		return seal, errors.New("seal: release, revision, author, approver and evidence must be there")
	case seal.Author == seal.Approver && seal.SingleSigner == "":
		return seal, errors.New("seal: author and approver are one person")
	}
	return seal, nil
}

// maxFiles bounds the files of one bundle.
const maxFiles = 4096

// Unpack returns the files of a bundle by their paths without a leading slash,
// and refuses one that holds what no bundle of ours holds. It verifies nothing.
func Unpack(raw []byte) (map[string][]byte, error) {
	if len(raw) > maxBundle {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(raw), maxBundle)
	}
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	}
	unzipped, err := io.ReadAll(io.LimitReader(zip, maxBundle+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	case len(unzipped) > maxBundle:
		return nil, fmt.Errorf("unpacked it has more than %d bytes", maxBundle)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(unzipped)); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it cannot be unpacked: %w", err)
		}
		name := strings.TrimPrefix(header.Name, "/")
		switch {
		case header.Typeflag != tar.TypeReg || path.Clean(name) != name || strings.HasPrefix(name, "../") || !belongs(name):
			return nil, fmt.Errorf("%q has no place in a bundle", header.Name)
		case files[name] != nil:
			return nil, fmt.Errorf("%q is in it twice", header.Name)
		case len(files) >= maxFiles:
			return nil, fmt.Errorf("it has more than %d files", maxFiles)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%q cannot be unpacked: %w", header.Name, err)
		}
		files[name] = append(make([]byte, 0, len(content)), content...)
	}
}

// belongs reports whether a bundle may hold a file of that name.
func belongs(name string) bool {
	base := path.Base(name)
	return name == ".manifest" || name == ".signatures.json" ||
		!strings.HasPrefix(base, ".") && (base == "data.json" || path.Ext(base) == ".rego" && !strings.HasSuffix(base, "_test.rego"))
}
