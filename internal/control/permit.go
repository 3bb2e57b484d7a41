// SPDX-License-Identifier: Apache-2.0

package control

import (
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
)

// noUser is the id of no user (chown(2)).
const noUser = math.MaxUint32

// root tells whether the client is root's.
func (c *conn) root() bool { return c.user.Uid == 0 }

// permit returns nil if the client may give the command, and leaves a line in
// the log of each that changes something.
func (c *conn) permit(cmd *Command) *Error {
	if !cmd.Changes {
		return nil
	}
	log := c.log.WithFields(logrus.Fields{"command": cmd.Name, "uid": c.user.Uid, "pid": c.user.Pid})
	if !c.mayChange() {
		c.repeats.Do("permission", func(count int) {
			log.WithField("count", count).Warn("management command refused: it takes root or the owner of the socket")
		})
		typed := strings.ReplaceAll(cmd.Name, "_", " ") // as the control programs have it
		return &Error{Code: CodePermission, Text: typed + " is for root and the owner of the socket", Hint: "use sudo"}
	}
	log.Info("management command")
	return nil
}

// mayChange tells whether the client is root, the owner of the socket file or
// the user that the daemon runs as by now. The client is who connected, whoever
// has the connection today (SO_PEERCRED).
func (c *conn) mayChange() bool {
	uid := c.user.Uid
	if uid == noUser {
		return false
	}
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return true
	}
	file, err := c.file.Stat()
	return err == nil && uid == file.Sys().(*syscall.Stat_t).Uid
}
