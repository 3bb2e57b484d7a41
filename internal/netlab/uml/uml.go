// SPDX-License-Identifier: Apache-2.0

// Package uml runs a program in a Linux kernel of its own, as a process of
// this machine: user-mode Linux, Debian's package user-mode-linux. It is for
// tests of what the machine's own kernel was built without, and of what needs a
// service manager. The program sees the machine's file system and nothing else
// of it.
package uml

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	kernel     = "/usr/bin/linux.uml"
	modulesDir = "/usr/lib/uml/modules"

	// Names of what the kernel hands the program as environment.
	envModules = "VXSND_UML_MODULES"
	envDir     = "VXSND_UML_DIR"
	envSystemd = "VXSND_UML_SYSTEMD"

	// exitMark is in front of the program's exit status, in a line of its own.
	exitMark = "user-mode linux: exit status "

	// outputDelay bounds the wait for the rest of the output.
	outputDelay = 5 * time.Second
)

// ErrAbsent says that user-mode Linux is not installed.
var ErrAbsent = errors.New("user-mode linux is not installed (apt-get install user-mode-linux)")

// A Program is what to run. It must call Init before anything else, and Exit
// at its end.
type Program struct {
	Path    string   // a static executable
	Args    []string // without blanks
	Env     []string // "NAME=value", names without a dot, no blanks, at most a dozen
	Dir     string   // working directory
	Modules []string // kernel modules, by name; what they need is loaded too

	// Systemd makes the machine's systemd the first process, and what it and the
	// program write to the file system is theirs alone. The program must be root's.
	Systemd bool
}

// Run boots a kernel, runs the program in it as root, and returns what was
// written to its console and the program's exit status. It needs no privilege.
func Run(ctx context.Context, p Program) (output string, status int, err error) {
	if _, err := os.Stat(kernel); err != nil {
		return "", 0, ErrAbsent
	}
	if p.Systemd {
		p.Modules = append([]string{"overlay"}, p.Modules...)
		p.Env = append([]string{envSystemd + "=wanted"}, p.Env...)
	}
	modules, err := resolve(p.Modules)
	if err != nil {
		return "", 0, err
	}
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "mem=1024M", "quiet",
		"con=null", "con0=fd:0,fd:1", "init=" + p.Path,
		envModules + "=" + strings.Join(modules, ","), envDir + "=" + p.Dir,
	}
	args = append(args, p.Env...)
	args = append(append(args, "--"), p.Args...)
	cmd := exec.CommandContext(ctx, kernel, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The kernel is several processes: they end together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputDelay
	runErr := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r\n", "\n")
	_, after, ok := strings.Cut(text, exitMark)
	if !ok {
		return text, 0, fmt.Errorf("user-mode linux ended early: %w", errors.Join(runErr, ctx.Err()))
	}
	line, _, _ := strings.Cut(after, "\n")
	status, err = strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return text, 0, fmt.Errorf("exit status of user-mode linux: %w", err)
	}
	return text, status, nil
}

// resolve returns the files of modules, with those that they need in front of
// them (modules.dep, depmod(8)).
func resolve(names []string) ([]string, error) {
	lists, err := filepath.Glob(modulesDir + "/*/modules.dep")
	if err != nil || len(lists) != 1 {
		return nil, fmt.Errorf("modules of user-mode linux: %d versions under %s", len(lists), modulesDir)
	}
	b, err := os.ReadFile(lists[0])
	if err != nil {
		return nil, err
	}
	needs := make(map[string][]string) // file -> files
	file := make(map[string]string)    // name -> file
	for _, line := range strings.Split(string(b), "\n") {
		f, deps, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		needs[f] = strings.Fields(deps)
		file[strings.TrimSuffix(filepath.Base(f), ".ko")] = f
	}
	var out []string
	done := make(map[string]bool)
	var add func(f string)
	add = func(f string) {
		if done[f] {
			return
		}
		done[f] = true
		for _, d := range needs[f] {
			add(d)
		}
		out = append(out, filepath.Join(filepath.Dir(lists[0]), f))
	}
	for _, n := range names {
		f, ok := file[n]
		if !ok {
			return nil, fmt.Errorf("user-mode linux has no module %s", n)
		}
		add(f)
	}
	return out, nil
}
