"""Settings: the Supabase project, its key, and what the environment says of the way to it."""

from .environment import environment as environment
from .network import proxy_of as proxy_of
from .network import ssl_context as ssl_context
from .service_key import check_service_key as check_service_key
from .settings import FLAG_VARIABLE as FLAG_VARIABLE
from .settings import Settings as Settings
from .settings import check_company_id as check_company_id
from .settings import check_schema as check_schema
from .settings import check_url as check_url
from .settings import database_flag as database_flag
