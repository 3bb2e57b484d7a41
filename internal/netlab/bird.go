// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// HasBIRD returns where the routing daemon BIRD is (Debian's bird2), which the
// path of an ordinary user may not have. Its error says that it is missing.
func HasBIRD() (path string, err error) {
	for _, name := range []string{"bird", "/usr/sbin/bird"} {
		if path, err = exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", err
}

// BIRD starts the routing daemon in the namespace, with its configuration, control
// socket and pid file in dir, which nobody else may use at the same time. It
// ends as other processes of the lab do. What it logs is its output.
func (n *Namespace) BIRD(dir, config string) (*Process, error) {
	path, err := HasBIRD()
	if err != nil {
		return nil, n.fail(err, "find bird")
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("bird.conf"), []byte("log stderr all;\n"+config), 0o644); err != nil {
		return nil, n.fail(err, "configure bird")
	}
	if out, err := exec.Command(path, "-p", "-c", file("bird.conf")).CombinedOutput(); err != nil {
		return nil, n.fail(fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out))), "check the configuration of bird")
	}
	return n.Start(exec.Command(path, "-f", "-c", file("bird.conf"), "-s", file("bird.ctl"), "-P", file("bird.pid")))
}
