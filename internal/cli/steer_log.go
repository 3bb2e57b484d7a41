// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"vxsnd/internal/config"
)

// othersMayWrite are the mode bits that let others write to a file.
const othersMayWrite = 0o022

// mayLog returns why the log may not go where somebody sets it to go. A file is
// written to and rotated away, so that a name which is set by mistake must not do
// harm: it is a new one, or that of a log in the directory of the log. The files are
// trusted with any name.
func (d *daemon) mayLog(over *overlay, to config.LogDest) error {
	i := slices.IndexFunc(over.set, func(f config.Flag) bool { return f.Option == "logdest" })
	if i < 0 || to.Kind != config.DestFile {
		return nil
	}
	refuse := func(text string) error {
		return config.Problems{{Key: "logdest", Text: text, Hint: "name a file that does not exist yet, or write the name to " + d.absolute(d.input.File) + " and reload"}}
	}
	if !filepath.IsAbs(strings.TrimSpace(over.set[i].Value)) {
		return refuse("only the absolute name of a file is taken")
	}
	known := slices.DeleteFunc([]config.LogDest{d.loaded.Config.LogDest, d.running.LogDest}, func(l config.LogDest) bool { return l.Kind != config.DestFile })
	info, err := os.Lstat(to.Path)
	if err != nil || slices.Contains(known, to) {
		return nil // what else is wrong with it is found when it is opened
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return refuse(fmt.Sprintf("%s is not a regular file", to.Path))
	case !slices.ContainsFunc(known, func(l config.LogDest) bool { return filepath.Dir(l.Path) == filepath.Dir(to.Path) }):
		return refuse(fmt.Sprintf("%s exists, and is not in the directory of the log file", to.Path))
	case !ok || int(st.Uid) != os.Geteuid() || st.Nlink > 1 || info.Mode()&othersMayWrite != 0:
		return refuse(fmt.Sprintf("%s exists, and is not the daemon's alone", to.Path))
	}
	return nil
}
