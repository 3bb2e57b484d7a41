// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set when the program is linked, by
// -ldflags "-X vxsnd/internal/cli.version=…".
var version string

// currentVersion returns the version that was set at link time, else that of the
// module, else the commit it was built from, else "devel".
func currentVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}

// versionLine is what -V prints.
func versionLine(program string) string {
	return fmt.Sprintf("%s %s (%s %s/%s)", program, currentVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
