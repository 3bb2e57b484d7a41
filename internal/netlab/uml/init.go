// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Inside tells whether this process is the program of a Run: the first process
// of its kernel.
func Inside() bool { return os.Getpid() == 1 && os.Getenv(envModules) != "" }

// Init makes the new kernel fit to work in: /proc and /sys, modules, the
// working directory. It takes what the kernel added off os.Args.
func Init() error {
	os.Args = slices.DeleteFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "console=") })
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for _, f := range strings.Split(os.Getenv(envModules), ",") {
		if err := load(f); err != nil {
			return fmt.Errorf("load %s: %w", f, err)
		}
	}
	return os.Chdir(os.Getenv(envDir))
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// Exit reports the exit status and ends the kernel. It does not return.
func Exit(status int) {
	fmt.Printf("\n%s%d\n", exitMark, status)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the kernel is on its way out
}
