package caddycvs

// This file holds the tests of the comments that Caddy's site shows of each module and of each field of its JSON.

import (
	"cmp"
	"go/ast"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
)

// moduleTypes returns those of the types that are modules, and those that the modules' JSON has.
func moduleTypes(t *testing.T, comments map[string]string) map[string]reflect.Type {
	t.Helper()
	types := make(map[string]reflect.Type)
	var add func(reflect.Type)
	add = func(typ reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map}, typ.Kind()) {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[App]().PkgPath() || types[typ.Name()] != nil {
			return
		}
		types[typ.Name()] = typ
		for field := range typ.Fields() {
			if field.IsExported() {
				add(field.Type)
			}
		}
	}
	modules := 0
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		require.NoError(t, err)
		typ := reflect.TypeOf(info.New())
		if typ.Kind() != reflect.Pointer || typ.Elem().PkgPath() != reflect.TypeFor[App]().PkgPath() {
			continue
		}
		if _, has := comments[typ.Elem().Name()]; has { // not a module of a test
			modules++
			add(typ)
		}
	}
	require.Equal(t, 8, modules)
	return types
}

// documentedField is a field of the JSON with its comment.
type documentedField struct{ name, json, comment string }

// documentedTypes returns the comments of types, and of their fields with a JSON name.
func documentedTypes(t *testing.T) (comments map[string]string, fields map[string][]documentedField) {
	t.Helper()
	comments, fields = make(map[string]string), make(map[string][]documentedField)
	for _, file := range sources(t, ".") {
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				comments[typ.Name.Name] = general.Doc.Text()
				if body, ok := typ.Type.(*ast.StructType); ok {
					fields[typ.Name.Name] = fieldsOf(body)
				}
			}
		}
	}
	return comments, fields
}

func fieldsOf(body *ast.StructType) (fields []documentedField) {
	for _, field := range body.Fields.List {
		if field.Tag == nil {
			continue
		}
		name, _, _ := strings.Cut(reflect.StructTag(textOf(field.Tag, nil)).Get("json"), ",")
		for _, own := range field.Names {
			fields = append(fields, documentedField{own.Name, name, strings.Join(strings.Fields(field.Doc.Text()), " ")})
		}
	}
	return fields
}

// A comment begins with its name, and says what holds without the field.
func TestEachFieldOfTheJSONHasAComment(t *testing.T) {
	t.Parallel()
	comments, fields := documentedTypes(t)
	for name, typ := range moduleTypes(t, comments) {
		assert.Regexp(t, "^"+name+` \w+ `, comments[name])
		tagged := 0
		for field := range typ.Fields() {
			if field.Tag.Get("json") != "" {
				tagged++
			}
		}
		assert.Len(t, fields[name], tagged, name)
		for _, field := range fields[name] {
			assert.Regexp(t, "^"+field.name+` \w+ .*\.$`, field.comment, "%s.%s", name, field.name)
			assert.Regexp(t, `Default: |Required`, field.comment, "%s.%s", name, field.name)
		}
	}
}

// The defaults, limits and words in the reference are tested by the code. A comment says the same.
func TestCommentsOfFieldsSayWhatTheReferenceSays(t *testing.T) {
	t.Parallel()
	_, fields := documentedTypes(t)
	for block, about := range blockTests {
		byJSON, compared := make(map[string]documentedField), 0
		collectFields(reflect.TypeOf(about.config), fields, byJSON)
		for _, option := range documentedOptions(t, block) {
			field, has := byJSON[cmp.Or(jsonPlurals[block+"."+option.name], option.name)]
			if !has {
				continue // of another block of the same table
			}
			compared++
			name := block + " " + option.name
			_, standard, _ := strings.Cut(field.comment, "Default: ")
			switch option.standard {
			case "required":
				assert.Contains(t, field.comment, "Required", name)
			case "–":
				assert.Regexp(t, "^(none|metrics without)", standard, name)
			case "off":
				assert.Regexp(t, "^false", standard, name)
			default:
				assert.NotEmpty(t, standard, name)
			}
			for _, word := range words(option.standard) {
				assert.Contains(t, standard, strings.Replace(word, "64KB", "64000", 1), name)
			}
			if option.name == "max_body" { // JSON has no limit
				continue
			}
			valid, _ := option.limits(t)
			for _, text := range append(valid, words(option.value)...) {
				if !strings.ContainsAny(text, "<{") && !strings.HasPrefix(text, "k") {
					assert.Contains(t, field.comment, text, name)
				}
			}
		}
		assert.Len(t, slices.Collect(maps.Keys(byJSON)), compared+len(about.jsonOnly), block)
	}
}

// collectFields adds the fields of a type, and of the types that it embeds, by their JSON names.
func collectFields(typ reflect.Type, fields map[string][]documentedField, byJSON map[string]documentedField) {
	for _, field := range fields[typ.Name()] {
		byJSON[field.json] = field
	}
	for field := range typ.Fields() {
		if field.Anonymous {
			collectFields(field.Type, fields, byJSON)
		}
	}
}
