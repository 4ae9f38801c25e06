// Command empty is a Lambda function that does nothing. make bench compares the others with it.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

type empty struct{}

func (empty) Invoke(context.Context, []byte) ([]byte, error) {
	return []byte(`{"statusCode":200}`), nil
}

func main() { lambda.Start(empty{}) }
