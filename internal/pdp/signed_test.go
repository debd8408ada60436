package pdp_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"chartgate/bundles"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/bundle"
	"pgregory.net/rapid"
)

const deploymentID = "7b1f4a52-0000-4000-8000-000000000001"

// signer signs bundles as control does.
type signer struct {
	id      string
	private string
	public  []byte
}

func newSigner(t testing.TB) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pdp.KeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(public)
	secret, _ := x509.MarshalPKCS8PrivateKey(private)
	return signer{id, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

func (s signer) keys(t testing.TB) *pdp.Keys {
	t.Helper()
	keys, err := pdp.ReadKeys(s.public)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sign seals files, whose content it fills in where the seal does not say, and
// signs them.
func (s signer) sign(t testing.TB, files map[string][]byte, seal pdp.Seal, scope string) []byte {
	t.Helper()
	files = maps.Clone(files)
	delete(files, ".manifest")
	if seal.Content == "" {
		seal.Content = pdp.Content(files)
	}
	roots := map[string]bool{}
	for name := range files {
		root, _, _ := strings.Cut(name, "/")
		roots[root] = true
	}
	files[".manifest"], _ = json.Marshal(map[string]any{"revision": seal.Content, "roots": slices.Sorted(maps.Keys(roots)),
		"rego_version": 1, "metadata": map[string]any{"chartgate": seal}})
	files[".signatures.json"] = s.token(t, files, scope)
	return packed(t, files)
}

func (s signer) token(t testing.TB, files map[string][]byte, scope string) []byte {
	t.Helper()
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var infos []bundle.FileInfo
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var value any = files[name]
		if bundle.IsStructuredDoc(name) {
			if err := json.Unmarshal(files[name], &value); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, bundle.NewFile(name, hex.EncodeToString(sum), "SHA-256"))
	}
	claims := filepath.Join(t.TempDir(), "claims.json")
	text, _ := json.Marshal(map[string]any{"scope": scope})
	if err := os.WriteFile(claims, text, 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := bundle.GenerateSignedToken(infos, bundle.NewSigningConfig(s.private, "EdDSA", claims), s.id)
	if err != nil {
		t.Fatal(err)
	}
	signatures, _ := json.Marshal(map[string]any{"signatures": []string{token}})
	return signatures
}

func packed(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archive.WriteHeader(&tar.Header{Name: "/" + name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func shippedFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := pdp.Unpack(bundles.Default)
	if err != nil {
		t.Fatal(err)
	}
	delete(files, ".manifest")
	delete(files, ".signatures.json")
	return files
}

func sealed(release string, revision int64) pdp.Seal {
	return pdp.Seal{Release: release, Revision: revision, Author: "officer-1", Approver: "officer-2",
		Evidence: "sha256:00", Scope: pdp.SignatureScope, Deployment: deploymentID}
}

func TestASignedBundleIsTaken(t *testing.T) {
	s, files := newSigner(t), shippedFiles(t)
	b, seal, err := pdp.ReadSigned(s.sign(t, files, sealed("release-1", 7), pdp.SignatureScope), s.keys(t), deploymentID)
	if err != nil {
		t.Fatal(err)
	}
	if seal.Release != "release-1" || seal.Revision != 7 || seal.Content != pdp.Content(files) || b.Revision != seal.Content {
		t.Errorf("%+v, bundle %s", seal, b.Revision)
	}
	if _, err := pdp.NewChecked(t.Context(), b); err != nil {
		t.Error(err)
	}
}

// A stock OPA reader with the public key takes the same bundle.
func TestOPATakesTheSameBundle(t *testing.T) {
	s := newSigner(t)
	config := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{"control": {Key: string(s.public), Algorithm: "EdDSA"}}, "control", pdp.SignatureScope, nil)
	raw := s.sign(t, shippedFiles(t), sealed("release-1", 1), pdp.SignatureScope)
	if _, err := bundle.NewReader(bytes.NewReader(raw)).WithBundleVerificationConfig(config).Read(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotWholeIsRefused(t *testing.T) {
	s, other, files := newSigner(t), newSigner(t), shippedFiles(t)
	good := s.sign(t, files, sealed("release-1", 7), pdp.SignatureScope)
	with := func(change func(map[string][]byte)) []byte {
		read, err := pdp.Unpack(good)
		if err != nil {
			t.Fatal(err)
		}
		change(read)
		return packed(t, read)
	}
	sealedAs := func(change func(*pdp.Seal)) []byte {
		seal := sealed("release-1", 7)
		change(&seal)
		return s.sign(t, files, seal, pdp.SignatureScope)
	}
	for what, raw := range map[string][]byte{
		"nothing":         nil,
		"not signed":      bundles.Default,
		"wrong key":       other.sign(t, files, sealed("release-1", 7), pdp.SignatureScope),
		"another scope":   s.sign(t, files, sealed("release-1", 7), "something"),
		"an altered rule": with(func(f map[string][]byte) { f["authz/authz.rego"] = append(f["authz/authz.rego"], '\n') }),
		"altered spaces":  with(func(f map[string][]byte) { f["tables/roles/data.json"] = append(f["tables/roles/data.json"], '\n') }),
		"a file more":     with(func(f map[string][]byte) { f["rules/more.rego"] = []byte("package more\n") }),
		"a file less":     with(func(f map[string][]byte) { delete(f, "tables/roles/data.json") }),
		"an altered seal": with(func(f map[string][]byte) {
			f[".manifest"] = bytes.Replace(f[".manifest"], []byte(`"revision":7`), []byte(`"revision":8`), 1)
		}),
		"a strange file":   with(func(f map[string][]byte) { f["policy.wasm"] = []byte{0} }),
		"a patch":          packed(t, map[string][]byte{"patch.json": []byte(`{"data":[]}`)}),
		"other deployment": sealedAs(func(s *pdp.Seal) { s.Deployment = "7b1f4a52-0000-4000-8000-000000000002" }),
		"no deployment":    sealedAs(func(s *pdp.Seal) { s.Deployment = "" }),
		"as if shipped":    sealedAs(func(s *pdp.Seal) { s.Deployment, s.SingleSigner = "", "shipped" }),
		"another content":  sealedAs(func(s *pdp.Seal) { s.Content = "sha256:00" }),
		"one person":       sealedAs(func(s *pdp.Seal) { s.Approver = s.Author }),
		"no approver":      sealedAs(func(s *pdp.Seal) { s.Approver = "" }),
		"no revision":      sealedAs(func(s *pdp.Seal) { s.Revision = 0 }),
		"scope of seal":    sealedAs(func(s *pdp.Seal) { s.Scope = "" }),
	} {
		if _, _, err := pdp.ReadSigned(raw, s.keys(t), deploymentID); !errors.Is(err, pdp.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	none, err := pdp.ReadKeys()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pdp.ReadSigned(good, none, deploymentID); !errors.Is(err, pdp.ErrRefused) {
		t.Errorf("without a key: %v", err)
	}
}

// Whatever is cut off or overwritten, what is taken is what was signed.
func TestDamagedBundles(t *testing.T) {
	s, files := newSigner(t), shippedFiles(t)
	keys, good := s.keys(t), s.sign(t, files, sealed("release-1", 7), pdp.SignatureScope)
	rapid.Check(t, func(t *rapid.T) {
		raw := bytes.Clone(good)
		if rapid.Bool().Draw(t, "cut") {
			raw = raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "to")]
		} else {
			for range rapid.IntRange(1, 4).Draw(t, "bytes") {
				raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
			}
		}
		if b, seal, err := pdp.ReadSigned(raw, keys, deploymentID); err == nil && (seal.Revision != 7 || b.Revision != pdp.Content(files)) {
			t.Fatalf("taken: %+v", seal)
		}
	})
}

// The shipped bundle's key signs the shipped content and nothing else.
func TestTheShippedKeySignsOneBundle(t *testing.T) {
	own, shipped, files := newSigner(t), newSigner(t), shippedFiles(t)
	keys, err := own.keys(t).WithShipped(shipped.public, pdp.Content(files))
	if err != nil {
		t.Fatal(err)
	}
	seal := sealed("shipped", 1)
	seal.Deployment, seal.Author, seal.Approver, seal.SingleSigner = "", "chartgate", "chartgate", "it ships with the product"
	if _, _, err := pdp.ReadSigned(shipped.sign(t, files, seal, pdp.SignatureScope), keys, deploymentID); err != nil {
		t.Error(err)
	}
	if _, _, err := pdp.ReadSigned(own.sign(t, files, sealed("release-1", 1), pdp.SignatureScope), keys, deploymentID); err != nil {
		t.Error(err)
	}
	other := maps.Clone(files)
	other["authz/authz.rego"] = append(bytes.Clone(other["authz/authz.rego"]), '\n')
	for what, raw := range map[string][]byte{
		"another content": shipped.sign(t, other, seal, pdp.SignatureScope),
		"for us":          shipped.sign(t, files, sealed("release-1", 1), pdp.SignatureScope),
		"by our own key":  own.sign(t, files, seal, pdp.SignatureScope),
	} {
		if _, _, err := pdp.ReadSigned(raw, keys, deploymentID); !errors.Is(err, pdp.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	s := newSigner(t)
	for what, text := range map[string]string{"nothing": "", "text": "a key", "a private one": s.private, "half": string(s.public[:40]), "with text behind": string(s.public) + "x"} {
		if _, err := pdp.ReadKeys([]byte(text)); err == nil {
			t.Errorf("%s was taken for a key", what)
		}
	}
}

// A bundle's own checks are asked before it decides.
func TestABundleThatFailsItsChecks(t *testing.T) {
	files := shippedFiles(t)
	read := func() *pdp.Bundle {
		b, err := pdp.ReadArchive(packed(t, files))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := pdp.NewChecked(t.Context(), read()); err != nil {
		t.Fatal(err)
	}
	files[pdp.ChecksFile] = bytes.Replace(files[pdp.ChecksFile], []byte(`"allow":true`), []byte(`"allow":false`), 1)
	if _, err := pdp.NewChecked(t.Context(), read()); err == nil || !strings.Contains(err.Error(), "check ") {
		t.Errorf("a failing check: %v", err)
	}
}
