"""The headings of the integration guide's template, in their order: its title and the 59 below it."""

from dataclasses import dataclass

TITLE = "[Service Name] Integration Guide"
GET, POST = "GET /resource", "POST /resource"
"""The two places of the template where endpoints stand; further endpoints follow the second."""


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading: its depth (1 is the title) and its text in the template."""

    level: int
    text: str

    def __str__(self) -> str:
        return f"{'#' * self.level} {self.text}"


_OUTLINE = f"""
# {TITLE}
## Table of Contents
## Overview
### Service Description
### Integration Purpose
### Use Cases
### Integration Type
## Prerequisites
### Required Access
### Required Services
### Required Tools
### Required Knowledge
## Architecture
### Integration Architecture
### Data Flow
### Components
## Setup and Configuration
### Step 1: Create Service Account
### Step 2: Configure Service Settings
### Step 3: Set Up Environment Variables
### Step 4: Install Dependencies
## Authentication and Authorization
### Authentication Method
### Obtaining Credentials
### Credential Management
### Rotating Credentials
## API Reference
### Base URL
### Common Headers
### Endpoints
#### {GET}
#### {POST}
## Code Examples
### Initialize Client
### Example 1: Retrieve Data
### Example 2: Create Resource
### Example 3: Handle Pagination
### Example 4: Error Handling
## Testing and Validation
### Test Environment
### Unit Tests
### Integration Tests
### Validation Checklist
## Error Handling
### Common Errors
#### Error: "Authentication failed"
#### Error: "Rate limit exceeded"
#### Error: "Connection timeout"
### Error Response Format
## Monitoring and Maintenance
### Key Metrics
### CloudWatch Metrics
### Logging
### Maintenance Tasks
## Troubleshooting
## Related Documentation
## Changelog
## Appendix
### Rate Limits
### API Changelog
"""


def _read(line: str) -> Heading:
    marks, _, text = line.partition(" ")
    return Heading(len(marks), text)


HEADINGS = tuple(map(_read, _OUTLINE.strip().splitlines()))
