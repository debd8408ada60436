package pdp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// compileBundle compiles the modules of b. Chartgate's own kind of policy is held to
// strict mode, to its schemas at the root, so that no package can forget them,
// and to deterministic builtins.
func compileBundle(b *Bundle, own bool) (*ast.Compiler, error) {
	capabilities := ast.CapabilitiesForThisVersion()
	capabilities.AllowNet = []string{}
	capabilities.Builtins = slices.DeleteFunc(capabilities.Builtins, func(builtin *ast.Builtin) bool {
		if own {
			return strings.HasPrefix(builtin.Name, "net.lookup") || builtin.Name == "http.send" || builtin.Name == "opa.runtime"
		}
		return builtin.IsNondeterministic()
	})
	compiler := ast.NewCompiler().WithCapabilities(capabilities).WithEnablePrintStatements(false)
	if !own {
		schemas := ast.NewSchemaSet()
		for name, schema := range b.Schemas {
			schemas.Put(ast.MustParseRef("schema."+name), schema)
		}
		if input, ok := b.Schemas["input"]; ok {
			schemas.Put(ast.SchemaRootRef, input)
		}
		compiler = compiler.WithStrict(true).WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
	}
	modules := make(map[string]*ast.Module, len(b.Modules))
	for name, module := range b.Modules {
		modules[name] = module.Copy() // compiling rewrites modules; the bundle stays as it was read
	}
	compiler.Compile(modules)
	if compiler.Failed() {
		return nil, fmt.Errorf("bundle: compile: %w", compiler.Errors)
	}
	return compiler, nil
}
