package job

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
)

// CallHash returns the name of a call in logs, errors and on terminals: the first 16 hexadecimal digits of the
// SHA-256 of its id. The id itself is the only secret part of the call's control URL. The hash of an empty id is
// empty.
func CallHash(callID string) string {
	if callID == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(callID))
	return hex.EncodeToString(sum[:8])
}

// LogCall returns the attribute of a log that names a call: its [CallHash].
func LogCall(callID string) slog.Attr { return slog.String("call", CallHash(callID)) }

// ShownID returns the name of a job in logs and errors. It is the id, unless that is an [EarlierID], which contains the
// id of the call: then it is the call's hash, a slash and the tool call's id.
func ShownID(jobID string) string {
	slash := strings.LastIndexByte(jobID, '/')
	if slash < 0 {
		return jobID
	}
	return CallHash(jobID[:slash]) + jobID[slash:]
}

// LogJob returns the attribute of a log that names a job: its [ShownID].
func LogJob(jobID string) slog.Attr { return slog.String("job", ShownID(jobID)) }
