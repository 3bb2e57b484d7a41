// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

// TestDeployedFilesLoadUnchanged reads files of the shapes that are in the
// field. A .want file names the options that then differ from their defaults,
// and the warnings.
func TestDeployedFilesLoadUnchanged(t *testing.T) {
	dir := filepath.Join("testdata", "deployed")
	loadDeployed(t, config.Vxsnd, dir)
	loadDeployed(t, config.Vxrd, filepath.Join(dir, "vxrd"))
}

func loadDeployed(t *testing.T, p config.Program, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files and %v, want some", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := config.Load(config.Input{Program: p, File: file, Required: true})
			if err != nil {
				t.Fatalf("got error\n%v\nwant none", err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".conf") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), describe(p, r, dir)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// describe lists what in r is not the default, and the warnings.
func describe(p config.Program, r config.Result, dir string) string {
	def := config.DefaultFor(p)
	defaults := strings.Split(def.Dump(), "\n")
	var b strings.Builder
	for i, line := range strings.Split(r.Config.Dump(), "\n") {
		if line != defaults[i] {
			b.WriteString(line + "\n")
		}
	}
	for _, w := range r.Warnings {
		b.WriteString("warning: " + strings.TrimPrefix(w.Error(), dir+"/") + "\n")
	}
	return b.String()
}
