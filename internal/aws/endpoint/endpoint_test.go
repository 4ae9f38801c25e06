package endpoint_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	smithyendpoints "github.com/aws/smithy-go/endpoints"

	"github.com/ringback/ringback/internal/aws/endpoint"
)

// TestURL compares the URLs with those that the SDK sends to, in each of AWS's partitions.
func TestURL(t *testing.T) {
	type resolve = func(context.Context, aws.Config) (smithyendpoints.Endpoint, error)
	services := map[string]resolve{
		"sqs": func(ctx context.Context, c aws.Config) (smithyendpoints.Endpoint, error) {
			return sqs.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx,
				sqs.EndpointParameters{Region: &c.Region, Endpoint: c.BaseEndpoint}.WithDefaults())
		},
		"dynamodb": func(ctx context.Context, c aws.Config) (smithyendpoints.Endpoint, error) {
			return dynamodb.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx,
				dynamodb.EndpointParameters{Region: &c.Region, Endpoint: c.BaseEndpoint}.WithDefaults())
		},
		"secretsmanager": func(ctx context.Context, c aws.Config) (smithyendpoints.Endpoint, error) {
			return secretsmanager.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx,
				secretsmanager.EndpointParameters{Region: &c.Region, Endpoint: c.BaseEndpoint}.WithDefaults())
		},
	}
	configs := []aws.Config{
		{Region: "eu-central-1", BaseEndpoint: aws.String("http://127.0.0.1:4566")},
		{Region: "eu-central-1", BaseEndpoint: aws.String("https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com/a")},
	}
	for _, region := range []string{
		"us-east-1", "eu-central-1", "ap-southeast-7", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1",
		"eu-isoe-west-1", "us-isof-south-1", "eusc-de-east-1",
	} {
		configs = append(configs, aws.Config{Region: region})
	}
	for service, resolve := range services {
		for _, c := range configs {
			want, err := resolve(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := endpoint.URL(t.Context(), c, service); got != want.URI.String() || err != nil {
				t.Errorf("%s in %s: %q and %v, and the SDK sends to %s", service, c.Region, got, err, want.URI.String())
			}
		}
	}
	withSlash := aws.Config{BaseEndpoint: aws.String("http://127.0.0.1:4566/")}
	if got, err := endpoint.URL(t.Context(), withSlash, "sqs"); got != "http://127.0.0.1:4566" || err != nil {
		t.Errorf("with a slash: %q and %v", got, err)
	}
}
