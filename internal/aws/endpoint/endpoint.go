// Package endpoint returns the URLs of AWS's services.
package endpoint

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// URL returns the URL of a service, such as "dynamodb", without a slash at its end. It is the BaseEndpoint of the
// configuration, or else the service's in the region. It does not read settings of FIPS and dual-stack endpoints.
//
// In all of AWS's partitions, the hosts of services differ by their first name only. The SDK's client of SQS, with
// which every function is linked, knows its own.
func URL(ctx context.Context, config aws.Config, service string) (string, error) {
	if config.BaseEndpoint != nil {
		return strings.TrimSuffix(*config.BaseEndpoint, "/"), nil
	}
	queues, err := sqs.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sqs.EndpointParameters{
		Region: &config.Region, UseDualStack: aws.Bool(false), UseFIPS: aws.Bool(false),
	})
	if err != nil {
		return "", err
	}
	return "https://" + service + "." + strings.TrimPrefix(queues.URI.Host, "sqs."), nil
}
