// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const systemd = "/lib/systemd/systemd"

// Inside tells whether this process is the program of a Run: the first process
// of its kernel, or one that the first process has started.
func Inside() bool {
	return os.Getenv(envModules) != "" && (os.Getpid() == 1 || besideSystemd())
}

// besideSystemd tells whether this process is the program of a Run with Systemd.
func besideSystemd() bool { return os.Getenv(envSystemd) == "runs" && os.Getppid() == 1 }

// Init makes the new kernel fit to work in: /proc and /sys, modules, the
// working directory. It takes what the kernel added off os.Args. With Systemd
// it returns in a second process alone, while systemd is starting up.
func Init() error {
	if besideSystemd() {
		return os.Chdir(os.Getenv(envDir))
	}
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
	if os.Getenv(envSystemd) != "" {
		return boot()
	}
	return os.Chdir(os.Getenv(envDir))
}

// boot starts the program again, on a view of the machine's file system that
// keeps changes to itself, and turns this process into systemd.
func boot() error {
	const dir, root, upper, work = "/mnt", "/mnt/root", "/mnt/upper", "/mnt/work"
	steps := []struct {
		name string
		do   func() error
	}{
		{"mount tmpfs", func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }},
		{"make directories", func() error {
			return errors.Join(os.Mkdir(root, 0o755), os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755))
		}},
		{"mount overlay", func() error {
			return unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)
		}},
		{"enter overlay", func() error { return os.Chdir(root) }},
		{"pivot_root", func() error { return unix.PivotRoot(".", "."+dir) }},
		{"leave what was /", func() error { return unix.Unmount(dir, unix.MNT_DETACH) }},
		// It would empty /tmp, where files of the program may be.
		{"mask a unit", func() error { return os.Symlink("/dev/null", "/etc/systemd/system/systemd-tmpfiles-setup.service") }},
		{"mount /proc", func() error { return unix.Mount("proc", "/proc", "proc", 0, "") }},
		{"start the program", func() error {
			cmd := exec.Command(os.Args[0], os.Args[1:]...)
			cmd.Env = append(os.Environ(), envSystemd+"=runs")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			return cmd.Start()
		}},
		// Without a login, and without what the machine runs besides. An empty
		// variable container says that it is in none, which the files of one
		// may seem to say.
		{"start systemd", func() error {
			return unix.Exec(systemd, []string{systemd, "--unit=basic.target", "--show-status=no"}, append(os.Environ(), "container="))
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
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
