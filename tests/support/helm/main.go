// Renders a chart as `helm template` does, with what Helm itself is made of: text/template and sprig.
//
//	main CHART RELEASE NAMESPACE [VALUES.json] > {"file": "rendered text", ...}
//
// Source: Helm's documentation, "Template Functions and Pipelines", "Built-in Objects", "Values Files".
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/ghodss/yaml"
)

type mapping = map[string]interface{}

func main() {
	if len(os.Args) < 4 || len(os.Args) > 5 {
		fail(fmt.Errorf("usage: main CHART RELEASE NAMESPACE [VALUES.json]"))
	}
	chart := os.Args[1]
	about := read(filepath.Join(chart, "Chart.yaml"))
	values := read(filepath.Join(chart, "values.yaml"))
	if len(os.Args) == 5 {
		merge(values, read(os.Args[4]))
	}
	rendered, err := render(chart, mapping{
		"Values":  values,
		"Chart":   capitalised(about),
		"Release": mapping{"Name": os.Args[2], "Namespace": os.Args[3], "Service": "Helm"},
	})
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		fail(err)
	}
}

func render(chart string, top mapping) (map[string]string, error) {
	all := template.New("chart")
	// not Option("missingkey=error"): Helm, too, renders what is missing as nothing
	all.Option("missingkey=zero").Funcs(functions(all))
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := path.Join(filepath.Base(chart), "templates", filepath.Base(file))
		if _, err := all.New(name).Parse(string(text)); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(filepath.Base(file), "_") {
			names = append(names, name)
		}
	}
	rendered := map[string]string{}
	for _, name := range names {
		text := &strings.Builder{}
		if err := all.ExecuteTemplate(text, name, top); err != nil {
			return nil, err
		}
		rendered[path.Base(name)] = strings.ReplaceAll(text.String(), "<no value>", "")
	}
	return rendered, nil
}

func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	delete(known, "env")
	delete(known, "expandenv")
	known["include"] = func(name string, data interface{}) (string, error) {
		text := &strings.Builder{}
		err := all.ExecuteTemplate(text, name, data)
		return text.String(), err
	}
	known["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	known["required"] = func(why string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, fmt.Errorf("%s", why)
		}
		return value, nil
	}
	return known
}

// merge: mappings are merged, null removes a key, all else replaces.
func merge(into, from mapping) {
	for key, value := range from {
		inner, both := value.(mapping)
		old, was := into[key].(mapping)
		switch {
		case value == nil:
			delete(into, key)
		case both && was:
			merge(old, inner)
		default:
			into[key] = value
		}
	}
}

// capitalised: Chart.yaml has appVersion, templates .Chart.AppVersion.
func capitalised(about mapping) mapping {
	found := mapping{}
	for key, value := range about {
		found[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return found
}

func read(file string) mapping {
	text, err := os.ReadFile(file)
	if err != nil {
		fail(err)
	}
	found := mapping{}
	if err := yaml.Unmarshal(text, &found); err != nil {
		fail(fmt.Errorf("%s: %w", file, err))
	}
	return found
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
