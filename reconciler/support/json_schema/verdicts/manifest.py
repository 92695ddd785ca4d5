"""Made by docs/compile_schemas.py from schemas/manifest.v1.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    try:
        data_any_of_count1 = 0
        if not data_any_of_count1:
            try:
                data_is_dict = isinstance(data, dict)
                if data_is_dict:
                    data__missing_keys = set(['instances']) - data.keys()
                    if data__missing_keys:
                        raise Unfit
                data_any_of_count1 += 1
            except Unfit:
                pass
        if not data_any_of_count1:
            try:
                data_is_dict = isinstance(data, dict)
                if data_is_dict:
                    data__missing_keys = set(['defaults']) - data.keys()
                    if data__missing_keys:
                        raise Unfit
                data_any_of_count1 += 1
            except Unfit:
                pass
        if not data_any_of_count1:
            raise Unfit
    except Unfit:
        instance(data)
    else:
        fleet(data)

def fleet(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['version', 'instances']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'version' in data_keys:
            data_keys.remove('version')
            data__version = data['version']
            version(data__version)
        if 'defaults' in data_keys:
            data_keys.remove('defaults')
            data__defaults = data['defaults']
            if not isinstance(data__defaults, dict):
                raise Unfit
            data__defaults_is_dict = isinstance(data__defaults, dict)
            if data__defaults_is_dict:
                data__defaults_keys = set(data__defaults.keys())
                if 'labels' in data__defaults_keys:
                    data__defaults_keys.remove('labels')
                    data__defaults__labels = data__defaults['labels']
                    labels(data__defaults__labels)
                if 'vars' in data__defaults_keys:
                    data__defaults_keys.remove('vars')
                    data__defaults__vars = data__defaults['vars']
                    vars(data__defaults__vars)
                if 'database' in data__defaults_keys:
                    data__defaults_keys.remove('database')
                    data__defaults__database = data__defaults['database']
                    database(data__defaults__database)
                if 'environment' in data__defaults_keys:
                    data__defaults_keys.remove('environment')
                    data__defaults__environment = data__defaults['environment']
                    environment(data__defaults__environment)
                if 'config' in data__defaults_keys:
                    data__defaults_keys.remove('config')
                    data__defaults__config = data__defaults['config']
                    config(data__defaults__config)
                if 'admin' in data__defaults_keys:
                    data__defaults_keys.remove('admin')
                    data__defaults__admin = data__defaults['admin']
                    admin(data__defaults__admin)
                if 'queues' in data__defaults_keys:
                    data__defaults_keys.remove('queues')
                    data__defaults__queues = data__defaults['queues']
                    queues(data__defaults__queues)
                if 'plans' in data__defaults_keys:
                    data__defaults_keys.remove('plans')
                    data__defaults__plans = data__defaults['plans']
                    plans(data__defaults__plans)
                if 'expect' in data__defaults_keys:
                    data__defaults_keys.remove('expect')
                    data__defaults__expect = data__defaults['expect']
                    expect(data__defaults__expect)
                if 'usage' in data__defaults_keys:
                    data__defaults_keys.remove('usage')
                    data__defaults__usage = data__defaults['usage']
                    usage(data__defaults__usage)
                if 'ignore' in data__defaults_keys:
                    data__defaults_keys.remove('ignore')
                    data__defaults__ignore = data__defaults['ignore']
                    ignore_list(data__defaults__ignore)
                if 'suspend' in data__defaults_keys:
                    data__defaults_keys.remove('suspend')
                    data__defaults__suspend = data__defaults['suspend']
                    suspend(data__defaults__suspend)
                if data__defaults_keys:
                    raise Unfit
        if 'instances' in data_keys:
            data_keys.remove('instances')
            data__instances = data['instances']
            data__instances_any_of_count2 = 0
            if not data__instances_any_of_count2:
                try:
                    if not isinstance(data__instances, list):
                        raise Unfit
                    data__instances_is_list = isinstance(data__instances, list)
                    if data__instances_is_list:
                        data__instances_len = len(data__instances)
                        if data__instances_len < 1:
                            raise Unfit
                        for data__instances_x, data__instances_item in enumerate(data__instances):
                            if not isinstance(data__instances_item, dict):
                                raise Unfit
                            data__instances_item_is_dict = isinstance(data__instances_item, dict)
                            if data__instances_item_is_dict:
                                data__instances_item__missing_keys = set(['instance']) - data__instances_item.keys()
                                if data__instances_item__missing_keys:
                                    raise Unfit
                                data__instances_item_keys = set(data__instances_item.keys())
                                if 'instance' in data__instances_item_keys:
                                    data__instances_item_keys.remove('instance')
                                    data__instances_item__instance = data__instances_item['instance']
                                    name(data__instances_item__instance)
                                if 'labels' in data__instances_item_keys:
                                    data__instances_item_keys.remove('labels')
                                    data__instances_item__labels = data__instances_item['labels']
                                    labels(data__instances_item__labels)
                                if 'vars' in data__instances_item_keys:
                                    data__instances_item_keys.remove('vars')
                                    data__instances_item__vars = data__instances_item['vars']
                                    vars(data__instances_item__vars)
                                if 'database' in data__instances_item_keys:
                                    data__instances_item_keys.remove('database')
                                    data__instances_item__database = data__instances_item['database']
                                    database(data__instances_item__database)
                                if 'environment' in data__instances_item_keys:
                                    data__instances_item_keys.remove('environment')
                                    data__instances_item__environment = data__instances_item['environment']
                                    environment(data__instances_item__environment)
                                if 'config' in data__instances_item_keys:
                                    data__instances_item_keys.remove('config')
                                    data__instances_item__config = data__instances_item['config']
                                    config(data__instances_item__config)
                                if 'admin' in data__instances_item_keys:
                                    data__instances_item_keys.remove('admin')
                                    data__instances_item__admin = data__instances_item['admin']
                                    admin(data__instances_item__admin)
                                if 'queues' in data__instances_item_keys:
                                    data__instances_item_keys.remove('queues')
                                    data__instances_item__queues = data__instances_item['queues']
                                    queues(data__instances_item__queues)
                                if 'plans' in data__instances_item_keys:
                                    data__instances_item_keys.remove('plans')
                                    data__instances_item__plans = data__instances_item['plans']
                                    plans(data__instances_item__plans)
                                if 'expect' in data__instances_item_keys:
                                    data__instances_item_keys.remove('expect')
                                    data__instances_item__expect = data__instances_item['expect']
                                    expect(data__instances_item__expect)
                                if 'usage' in data__instances_item_keys:
                                    data__instances_item_keys.remove('usage')
                                    data__instances_item__usage = data__instances_item['usage']
                                    usage(data__instances_item__usage)
                                if 'ignore' in data__instances_item_keys:
                                    data__instances_item_keys.remove('ignore')
                                    data__instances_item__ignore = data__instances_item['ignore']
                                    ignore_list(data__instances_item__ignore)
                                if 'suspend' in data__instances_item_keys:
                                    data__instances_item_keys.remove('suspend')
                                    data__instances_item__suspend = data__instances_item['suspend']
                                    suspend(data__instances_item__suspend)
                                if data__instances_item_keys:
                                    raise Unfit
                    data__instances_any_of_count2 += 1
                except Unfit:
                    pass
            if not data__instances_any_of_count2:
                try:
                    if not isinstance(data__instances, dict):
                        raise Unfit
                    data__instances_is_dict = isinstance(data__instances, dict)
                    if data__instances_is_dict:
                        data__instances__missing_keys = set(['csv']) - data__instances.keys()
                        if data__instances__missing_keys:
                            raise Unfit
                        data__instances_keys = set(data__instances.keys())
                        if 'csv' in data__instances_keys:
                            data__instances_keys.remove('csv')
                            data__instances__csv = data__instances['csv']
                            if not is_text(data__instances__csv):
                                raise Unfit
                            if isinstance(data__instances__csv, str):
                                data__instances__csv_len = len(data__instances__csv)
                                if data__instances__csv_len < 1:
                                    raise Unfit
                                if data__instances__csv_len > 1000:
                                    raise Unfit
                        if data__instances_keys:
                            raise Unfit
                    data__instances_any_of_count2 += 1
                except Unfit:
                    pass
            if not data__instances_any_of_count2:
                raise Unfit
        if data_keys:
            raise Unfit

def name(data: Any) -> None:
    if not is_text(data):
        raise Unfit
    if isinstance(data, str):
        if not matches('^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', data):
            raise Unfit

def suspend(data: Any) -> None:
    if not isinstance(data, bool):
        raise Unfit

def ignore_list(data: Any) -> None:
    if not isinstance(data, list):
        raise Unfit
    data_is_list = isinstance(data, list)
    if data_is_list:
        data_len = len(data)
        if data_len > 1000:
            raise Unfit
        for data_x, data_item in enumerate(data):
            if not isinstance(data_item, dict):
                raise Unfit
            data_item_is_dict = isinstance(data_item, dict)
            if data_item_is_dict:
                data_item__missing_keys = set(['field', 'reason']) - data_item.keys()
                if data_item__missing_keys:
                    raise Unfit
                data_item_keys = set(data_item.keys())
                if 'field' in data_item_keys:
                    data_item_keys.remove('field')
                    data_item__field = data_item['field']
                    if not is_text(data_item__field):
                        raise Unfit
                    if isinstance(data_item__field, str):
                        data_item__field_len = len(data_item__field)
                        if data_item__field_len > 1000:
                            raise Unfit
                        if not matches('^[^/]+/.+$', data_item__field):
                            raise Unfit
                if 'until' in data_item_keys:
                    data_item_keys.remove('until')
                    data_item__until = data_item['until']
                    if not is_text(data_item__until):
                        raise Unfit
                    if isinstance(data_item__until, str):
                        if not matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}$', data_item__until):
                            raise Unfit
                if 'reason' in data_item_keys:
                    data_item_keys.remove('reason')
                    data_item__reason = data_item['reason']
                    if not is_text(data_item__reason):
                        raise Unfit
                    if isinstance(data_item__reason, str):
                        data_item__reason_len = len(data_item__reason)
                        if data_item__reason_len < 1:
                            raise Unfit
                        if data_item__reason_len > 1000:
                            raise Unfit
                if data_item_keys:
                    raise Unfit

def usage(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'report' in data_keys:
            data_keys.remove('report')
            data__report = data['report']
            if not isinstance(data__report, bool):
                raise Unfit
        if data_keys:
            raise Unfit

def expect(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'status' in data_keys:
            data_keys.remove('status')
            data__status = data['status']
            if not is_text(data__status):
                raise Unfit
            if not (isinstance(data__status, str) and data__status == 'active' or (isinstance(data__status, str) and data__status == 'suspended') or (isinstance(data__status, str) and data__status == 'pending_payment')):
                raise Unfit
        if 'billing_status' in data_keys:
            data_keys.remove('billing_status')
            data__billingstatus = data['billing_status']
            if not is_text(data__billingstatus):
                raise Unfit
            if not (isinstance(data__billingstatus, str) and data__billingstatus == 'paid' or (isinstance(data__billingstatus, str) and data__billingstatus == 'overdue')):
                raise Unfit
        if 'enabled_features' in data_keys:
            data_keys.remove('enabled_features')
            data__enabledfeatures = data['enabled_features']
            if not isinstance(data__enabledfeatures, dict):
                raise Unfit
            data__enabledfeatures_is_dict = isinstance(data__enabledfeatures, dict)
            if data__enabledfeatures_is_dict:
                data__enabledfeatures_keys = set(data__enabledfeatures.keys())
                for data__enabledfeatures_key in data__enabledfeatures_keys:
                    if data__enabledfeatures_key not in []:
                        data__enabledfeatures_value = data__enabledfeatures.get(data__enabledfeatures_key)
                        if not isinstance(data__enabledfeatures_value, bool):
                            raise Unfit
                data__enabledfeatures_len = len(data__enabledfeatures)
                if data__enabledfeatures_len != 0:
                    data__enabledfeatures_property_names = True
                    for data__enabledfeatures_key in data__enabledfeatures:
                        try:
                            if not is_text(data__enabledfeatures_key):
                                raise Unfit
                            if isinstance(data__enabledfeatures_key, str):
                                data__enabledfeatures_key_len = len(data__enabledfeatures_key)
                                if data__enabledfeatures_key_len < 1:
                                    raise Unfit
                                if data__enabledfeatures_key_len > 256:
                                    raise Unfit
                        except Unfit:
                            data__enabledfeatures_property_names = False
                    if not data__enabledfeatures_property_names:
                        raise Unfit
        if data_keys:
            raise Unfit

def plans(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'source' in data_keys:
            data_keys.remove('source')
            data__source = data['source']
            if not is_text(data__source):
                raise Unfit
            if not (isinstance(data__source, str) and data__source == 'connect' or (isinstance(data__source, str) and data__source == 'manifest')):
                raise Unfit
        if 'unmanaged' in data_keys:
            data_keys.remove('unmanaged')
            data__unmanaged = data['unmanaged']
            if not is_text(data__unmanaged):
                raise Unfit
            if not (isinstance(data__unmanaged, str) and data__unmanaged == 'keep' or (isinstance(data__unmanaged, str) and data__unmanaged == 'deactivate')):
                raise Unfit
        if 'items' in data_keys:
            data_keys.remove('items')
            data__items = data['items']
            if not isinstance(data__items, list):
                raise Unfit
            data__items_is_list = isinstance(data__items, list)
            if data__items_is_list:
                data__items_len = len(data__items)
                if data__items_len > 1000:
                    raise Unfit
                for data__items_x, data__items_item in enumerate(data__items):
                    plan(data__items_item)
        if data_keys:
            raise Unfit

def plan(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['id', 'name', 'price', 'billing_interval']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'id' in data_keys:
            data_keys.remove('id')
            data__id = data['id']
            if not is_text(data__id):
                raise Unfit
            if isinstance(data__id, str):
                data__id_len = len(data__id)
                if data__id_len < 1:
                    raise Unfit
                if data__id_len > 255:
                    raise Unfit
        if 'name' in data_keys:
            data_keys.remove('name')
            data__name = data['name']
            if not is_text(data__name):
                raise Unfit
            if isinstance(data__name, str):
                data__name_len = len(data__name)
                if data__name_len < 1:
                    raise Unfit
                if data__name_len > 1000:
                    raise Unfit
        if 'description' in data_keys:
            data_keys.remove('description')
            data__description = data['description']
            if not (is_text(data__description) or isinstance(data__description, NoneType)):
                raise Unfit
            if isinstance(data__description, str):
                data__description_len = len(data__description)
                if data__description_len > 10000:
                    raise Unfit
        if 'price' in data_keys:
            data_keys.remove('price')
            data__price = data['price']
            if not isinstance(data__price, int) and (not (isinstance(data__price, float) and data__price.is_integer())) or isinstance(data__price, bool):
                raise Unfit
            if isinstance(data__price, (int, float)) and (not isinstance(data__price, bool)):
                if data__price < 0:
                    raise Unfit
                if data__price > 2147483647:
                    raise Unfit
        if 'currency' in data_keys:
            data_keys.remove('currency')
            data__currency = data['currency']
            if not is_text(data__currency):
                raise Unfit
            if isinstance(data__currency, str):
                if not matches('^[A-Z]{3}$', data__currency):
                    raise Unfit
        if 'billing_interval' in data_keys:
            data_keys.remove('billing_interval')
            data__billinginterval = data['billing_interval']
            if not is_text(data__billinginterval):
                raise Unfit
            if isinstance(data__billinginterval, str):
                data__billinginterval_len = len(data__billinginterval)
                if data__billinginterval_len < 1:
                    raise Unfit
                if data__billinginterval_len > 100:
                    raise Unfit
        if 'features' in data_keys:
            data_keys.remove('features')
            data__features = data['features']
            if not isinstance(data__features, list):
                raise Unfit
            data__features_is_list = isinstance(data__features, list)
            if data__features_is_list:
                data__features_len = len(data__features)
                if data__features_len > 1000:
                    raise Unfit
                for data__features_x, data__features_item in enumerate(data__features):
                    if not is_text(data__features_item):
                        raise Unfit
                    if isinstance(data__features_item, str):
                        data__features_item_len = len(data__features_item)
                        if data__features_item_len < 1:
                            raise Unfit
        if 'max_users' in data_keys:
            data_keys.remove('max_users')
            data__maxusers = data['max_users']
            if not isinstance(data__maxusers, (int, NoneType)) and (not (isinstance(data__maxusers, float) and data__maxusers.is_integer())) or isinstance(data__maxusers, bool):
                raise Unfit
            if isinstance(data__maxusers, (int, float)) and (not isinstance(data__maxusers, bool)):
                if data__maxusers < 0:
                    raise Unfit
                if data__maxusers > 2147483647:
                    raise Unfit
        if 'max_conversations' in data_keys:
            data_keys.remove('max_conversations')
            data__maxconversations = data['max_conversations']
            if not isinstance(data__maxconversations, (int, NoneType)) and (not (isinstance(data__maxconversations, float) and data__maxconversations.is_integer())) or isinstance(data__maxconversations, bool):
                raise Unfit
            if isinstance(data__maxconversations, (int, float)) and (not isinstance(data__maxconversations, bool)):
                if data__maxconversations < 0:
                    raise Unfit
                if data__maxconversations > 2147483647:
                    raise Unfit
        if 'storage_limit' in data_keys:
            data_keys.remove('storage_limit')
            data__storagelimit = data['storage_limit']
            if not isinstance(data__storagelimit, (int, NoneType)) and (not (isinstance(data__storagelimit, float) and data__storagelimit.is_integer())) or isinstance(data__storagelimit, bool):
                raise Unfit
            if isinstance(data__storagelimit, (int, float)) and (not isinstance(data__storagelimit, bool)):
                if data__storagelimit < 0:
                    raise Unfit
                if data__storagelimit > 2147483647:
                    raise Unfit
        if 'is_active' in data_keys:
            data_keys.remove('is_active')
            data__isactive = data['is_active']
            if not isinstance(data__isactive, bool):
                raise Unfit
        if 'stripe_product_id' in data_keys:
            data_keys.remove('stripe_product_id')
            data__stripeproductid = data['stripe_product_id']
            if not (is_text(data__stripeproductid) or isinstance(data__stripeproductid, NoneType)):
                raise Unfit
            if isinstance(data__stripeproductid, str):
                data__stripeproductid_len = len(data__stripeproductid)
                if data__stripeproductid_len > 255:
                    raise Unfit
        if 'stripe_price_id' in data_keys:
            data_keys.remove('stripe_price_id')
            data__stripepriceid = data['stripe_price_id']
            if not (is_text(data__stripepriceid) or isinstance(data__stripepriceid, NoneType)):
                raise Unfit
            if isinstance(data__stripepriceid, str):
                data__stripepriceid_len = len(data__stripepriceid)
                if data__stripepriceid_len > 255:
                    raise Unfit
        if data_keys:
            raise Unfit

def queues(data: Any) -> None:
    data_any_of_count3 = 0
    if not data_any_of_count3:
        try:
            queue_list(data)
            data_any_of_count3 += 1
        except Unfit:
            pass
    if not data_any_of_count3:
        try:
            queues_long(data)
            data_any_of_count3 += 1
        except Unfit:
            pass
    if not data_any_of_count3:
        raise Unfit

def queues_long(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['items']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'items' in data_keys:
            data_keys.remove('items')
            data__items = data['items']
            queue_list(data__items)
        if 'unmanaged' in data_keys:
            data_keys.remove('unmanaged')
            data__unmanaged = data['unmanaged']
            if not is_text(data__unmanaged):
                raise Unfit
            if not (isinstance(data__unmanaged, str) and data__unmanaged == 'keep' or (isinstance(data__unmanaged, str) and data__unmanaged == 'deactivate') or (isinstance(data__unmanaged, str) and data__unmanaged == 'remove')):
                raise Unfit
        if 'former' in data_keys:
            data_keys.remove('former')
            data__former = data['former']
            if not is_text(data__former):
                raise Unfit
            if not (isinstance(data__former, str) and data__former == 'keep' or (isinstance(data__former, str) and data__former == 'deactivate') or (isinstance(data__former, str) and data__former == 'remove')):
                raise Unfit
        if data_keys:
            raise Unfit

def queue_list(data: Any) -> None:
    if not isinstance(data, list):
        raise Unfit
    data_is_list = isinstance(data, list)
    if data_is_list:
        data_len = len(data)
        if data_len > 1000:
            raise Unfit
        for data_x, data_item in enumerate(data):
            queue(data_item)

def queue(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['name']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'name' in data_keys:
            data_keys.remove('name')
            data__name = data['name']
            if not is_text(data__name):
                raise Unfit
            if isinstance(data__name, str):
                data__name_len = len(data__name)
                if data__name_len < 1:
                    raise Unfit
                if data__name_len > 1000:
                    raise Unfit
        if 'description' in data_keys:
            data_keys.remove('description')
            data__description = data['description']
            if not (is_text(data__description) or isinstance(data__description, NoneType)):
                raise Unfit
            if isinstance(data__description, str):
                data__description_len = len(data__description)
                if data__description_len > 10000:
                    raise Unfit
        if 'is_active' in data_keys:
            data_keys.remove('is_active')
            data__isactive = data['is_active']
            if not isinstance(data__isactive, bool):
                raise Unfit
        if 'renamed_from' in data_keys:
            data_keys.remove('renamed_from')
            data__renamedfrom = data['renamed_from']
            if not is_text(data__renamedfrom):
                raise Unfit
            if isinstance(data__renamedfrom, str):
                data__renamedfrom_len = len(data__renamedfrom)
                if data__renamedfrom_len < 1:
                    raise Unfit
                if data__renamedfrom_len > 1000:
                    raise Unfit
        if data_keys:
            raise Unfit

def admin(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'name' in data_keys:
            data_keys.remove('name')
            data__name = data['name']
            if not is_text(data__name):
                raise Unfit
            if isinstance(data__name, str):
                data__name_len = len(data__name)
                if data__name_len < 1:
                    raise Unfit
                if data__name_len > 1000:
                    raise Unfit
        if 'email' in data_keys:
            data_keys.remove('email')
            data__email = data['email']
            if not is_text(data__email):
                raise Unfit
            if isinstance(data__email, str):
                data__email_len = len(data__email)
                if data__email_len > 254:
                    raise Unfit
                if not matches('^[^@\\s\\x00-\\x1f\\x7f\\x85\\ufeff]+@[^@\\s\\x00-\\x1f\\x7f\\x85\\ufeff]+$', data__email):
                    raise Unfit
        if 'password' in data_keys:
            data_keys.remove('password')
            data__password = data['password']
            password_reference(data__password)
        if 'update_password' in data_keys:
            data_keys.remove('update_password')
            data__updatepassword = data['update_password']
            if not is_text(data__updatepassword):
                raise Unfit
            if not (isinstance(data__updatepassword, str) and data__updatepassword == 'on_create' or (isinstance(data__updatepassword, str) and data__updatepassword == 'always')):
                raise Unfit
        if 'bcrypt_cost' in data_keys:
            data_keys.remove('bcrypt_cost')
            data__bcryptcost = data['bcrypt_cost']
            if not isinstance(data__bcryptcost, int) and (not (isinstance(data__bcryptcost, float) and data__bcryptcost.is_integer())) or isinstance(data__bcryptcost, bool):
                raise Unfit
            if isinstance(data__bcryptcost, (int, float)) and (not isinstance(data__bcryptcost, bool)):
                if data__bcryptcost < 12:
                    raise Unfit
                if data__bcryptcost > 16:
                    raise Unfit
        if 'renamed_from' in data_keys:
            data_keys.remove('renamed_from')
            data__renamedfrom = data['renamed_from']
            if not is_text(data__renamedfrom):
                raise Unfit
            if isinstance(data__renamedfrom, str):
                data__renamedfrom_len = len(data__renamedfrom)
                if data__renamedfrom_len > 254:
                    raise Unfit
                if not matches('^[^@\\s\\x00-\\x1f\\x7f\\x85\\ufeff]+@[^@\\s\\x00-\\x1f\\x7f\\x85\\ufeff]+$', data__renamedfrom):
                    raise Unfit
        if 'former' in data_keys:
            data_keys.remove('former')
            data__former = data['former']
            if not is_text(data__former):
                raise Unfit
            if not (isinstance(data__former, str) and data__former == 'keep' or (isinstance(data__former, str) and data__former == 'demote') or (isinstance(data__former, str) and data__former == 'lock')):
                raise Unfit
        if data_keys:
            raise Unfit

def password_reference(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_one_of_count4 = 0
    if data_one_of_count4 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['env']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count4 += 1
        except Unfit:
            pass
    if data_one_of_count4 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['file']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count4 += 1
        except Unfit:
            pass
    if data_one_of_count4 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['command']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count4 += 1
        except Unfit:
            pass
    if data_one_of_count4 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['generate']) - data.keys()
                if data__missing_keys:
                    raise Unfit
                data_keys = set(data.keys())
                if 'generate' in data_keys:
                    data_keys.remove('generate')
                    data__generate = data['generate']
                    if not (isinstance(data__generate, bool) and data__generate is True):
                        raise Unfit
                if 'env' in data_keys:
                    data_keys.remove('env')
                    data__env = data['env']
                    raise Unfit
                if 'file' in data_keys:
                    data_keys.remove('file')
                    data__file = data['file']
                    raise Unfit
                if 'command' in data_keys:
                    data_keys.remove('command')
                    data__command = data['command']
                    raise Unfit
            data_one_of_count4 += 1
        except Unfit:
            pass
    if data_one_of_count4 != 1:
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'env' in data_keys:
            data_keys.remove('env')
            data__env = data['env']
            if not is_text(data__env):
                raise Unfit
            if isinstance(data__env, str):
                if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                    raise Unfit
        if 'file' in data_keys:
            data_keys.remove('file')
            data__file = data['file']
            if not is_text(data__file):
                raise Unfit
            if isinstance(data__file, str):
                data__file_len = len(data__file)
                if data__file_len < 1:
                    raise Unfit
                if data__file_len > 1000:
                    raise Unfit
        if 'command' in data_keys:
            data_keys.remove('command')
            data__command = data['command']
            if not isinstance(data__command, list):
                raise Unfit
            data__command_is_list = isinstance(data__command, list)
            if data__command_is_list:
                data__command_len = len(data__command)
                if data__command_len < 1:
                    raise Unfit
                for data__command_x, data__command_item in enumerate(data__command):
                    if not is_text(data__command_item):
                        raise Unfit
                    if isinstance(data__command_item, str):
                        data__command_item_len = len(data__command_item)
                        if data__command_item_len < 1:
                            raise Unfit
        if 'generate' in data_keys:
            data_keys.remove('generate')
            data__generate = data['generate']
            if not isinstance(data__generate, bool):
                raise Unfit
        if data_keys:
            raise Unfit

def config(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'connect_api_url' in data_keys:
            data_keys.remove('connect_api_url')
            data__connectapiurl = data['connect_api_url']
            data__connectapiurl_any_of_count5 = 0
            if not data__connectapiurl_any_of_count5:
                try:
                    if not is_text(data__connectapiurl):
                        raise Unfit
                    if isinstance(data__connectapiurl, str):
                        data__connectapiurl_len = len(data__connectapiurl)
                        if data__connectapiurl_len < 1:
                            raise Unfit
                    data__connectapiurl_any_of_count5 += 1
                except Unfit:
                    pass
            if not data__connectapiurl_any_of_count5:
                try:
                    setting_reference(data__connectapiurl)
                    data__connectapiurl_any_of_count5 += 1
                except Unfit:
                    pass
            if not data__connectapiurl_any_of_count5:
                raise Unfit
        if 'instance_key' in data_keys:
            data_keys.remove('instance_key')
            data__instancekey = data['instance_key']
            key_reference(data__instancekey)
        if 'check_interval_minutes' in data_keys:
            data_keys.remove('check_interval_minutes')
            data__checkintervalminutes = data['check_interval_minutes']
            if not isinstance(data__checkintervalminutes, int) and (not (isinstance(data__checkintervalminutes, float) and data__checkintervalminutes.is_integer())) or isinstance(data__checkintervalminutes, bool):
                raise Unfit
            if isinstance(data__checkintervalminutes, (int, float)) and (not isinstance(data__checkintervalminutes, bool)):
                if data__checkintervalminutes < 1:
                    raise Unfit
                if data__checkintervalminutes > 525600:
                    raise Unfit
        if 'company_name' in data_keys:
            data_keys.remove('company_name')
            data__companyname = data['company_name']
            if not is_text(data__companyname):
                raise Unfit
            if isinstance(data__companyname, str):
                data__companyname_len = len(data__companyname)
                if data__companyname_len < 1:
                    raise Unfit
                if data__companyname_len > 1000:
                    raise Unfit
        if 'settings' in data_keys:
            data_keys.remove('settings')
            data__settings = data['settings']
            if not isinstance(data__settings, dict):
                raise Unfit
            data__settings_is_dict = isinstance(data__settings, dict)
            if data__settings_is_dict:
                data__settings_keys = set(data__settings.keys())
                data__settings_len = len(data__settings)
                if data__settings_len != 0:
                    data__settings_property_names = True
                    for data__settings_key in data__settings:
                        try:
                            if not is_text(data__settings_key):
                                raise Unfit
                            if isinstance(data__settings_key, str):
                                data__settings_key_len = len(data__settings_key)
                                if data__settings_key_len < 1:
                                    raise Unfit
                                if data__settings_key_len > 256:
                                    raise Unfit
                        except Unfit:
                            data__settings_property_names = False
                    if not data__settings_property_names:
                        raise Unfit
        if 'former_settings' in data_keys:
            data_keys.remove('former_settings')
            data__formersettings = data['former_settings']
            if not is_text(data__formersettings):
                raise Unfit
            if not (isinstance(data__formersettings, str) and data__formersettings == 'keep' or (isinstance(data__formersettings, str) and data__formersettings == 'remove')):
                raise Unfit
        if data_keys:
            raise Unfit

def key_reference(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_one_of_count6 = 0
    if data_one_of_count6 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['env']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count6 += 1
        except Unfit:
            pass
    if data_one_of_count6 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['file']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count6 += 1
        except Unfit:
            pass
    if data_one_of_count6 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['command']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count6 += 1
        except Unfit:
            pass
    if data_one_of_count6 != 1:
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'env' in data_keys:
            data_keys.remove('env')
            data__env = data['env']
            if not is_text(data__env):
                raise Unfit
            if isinstance(data__env, str):
                if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                    raise Unfit
        if 'file' in data_keys:
            data_keys.remove('file')
            data__file = data['file']
            if not is_text(data__file):
                raise Unfit
            if isinstance(data__file, str):
                data__file_len = len(data__file)
                if data__file_len < 1:
                    raise Unfit
                if data__file_len > 1000:
                    raise Unfit
        if 'command' in data_keys:
            data_keys.remove('command')
            data__command = data['command']
            if not isinstance(data__command, list):
                raise Unfit
            data__command_is_list = isinstance(data__command, list)
            if data__command_is_list:
                data__command_len = len(data__command)
                if data__command_len < 1:
                    raise Unfit
                for data__command_x, data__command_item in enumerate(data__command):
                    if not is_text(data__command_item):
                        raise Unfit
                    if isinstance(data__command_item, str):
                        data__command_item_len = len(data__command_item)
                        if data__command_item_len < 1:
                            raise Unfit
        if 'default' in data_keys:
            data_keys.remove('default')
            data__default = data['default']
            if not (isinstance(data__default, str) and data__default == 'embedded:'):
                raise Unfit
        if data_keys:
            raise Unfit

def setting_reference(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_one_of_count7 = 0
    if data_one_of_count7 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['env']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count7 += 1
        except Unfit:
            pass
    if data_one_of_count7 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['file']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count7 += 1
        except Unfit:
            pass
    if data_one_of_count7 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['command']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count7 += 1
        except Unfit:
            pass
    if data_one_of_count7 != 1:
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'env' in data_keys:
            data_keys.remove('env')
            data__env = data['env']
            if not is_text(data__env):
                raise Unfit
            if isinstance(data__env, str):
                if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                    raise Unfit
        if 'file' in data_keys:
            data_keys.remove('file')
            data__file = data['file']
            if not is_text(data__file):
                raise Unfit
            if isinstance(data__file, str):
                data__file_len = len(data__file)
                if data__file_len < 1:
                    raise Unfit
                if data__file_len > 1000:
                    raise Unfit
        if 'command' in data_keys:
            data_keys.remove('command')
            data__command = data['command']
            if not isinstance(data__command, list):
                raise Unfit
            data__command_is_list = isinstance(data__command, list)
            if data__command_is_list:
                data__command_len = len(data__command)
                if data__command_len < 1:
                    raise Unfit
                for data__command_x, data__command_item in enumerate(data__command):
                    if not is_text(data__command_item):
                        raise Unfit
                    if isinstance(data__command_item, str):
                        data__command_item_len = len(data__command_item)
                        if data__command_item_len < 1:
                            raise Unfit
        if 'default' in data_keys:
            data_keys.remove('default')
            data__default = data['default']
            if not is_text(data__default):
                raise Unfit
            if isinstance(data__default, str):
                data__default_len = len(data__default)
                if data__default_len < 1:
                    raise Unfit
        if data_keys:
            raise Unfit

def environment(data: Any) -> None:
    data_any_of_count8 = 0
    if not data_any_of_count8:
        try:
            if not is_text(data):
                raise Unfit
            if not (isinstance(data, str) and data == 'production' or (isinstance(data, str) and data == 'development')):
                raise Unfit
            data_any_of_count8 += 1
        except Unfit:
            pass
    if not data_any_of_count8:
        try:
            environment_long(data)
            data_any_of_count8 += 1
        except Unfit:
            pass
    if not data_any_of_count8:
        raise Unfit

def environment_long(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    try:
        data_is_dict = isinstance(data, dict)
        if data_is_dict:
            data__missing_keys = set(['env']) - data.keys()
            if data__missing_keys:
                raise Unfit
    except Unfit:
        data_is_dict = isinstance(data, dict)
        if data_is_dict:
            data_keys = set(data.keys())
            if 'default' in data_keys:
                data_keys.remove('default')
                data__default = data['default']
                raise Unfit
    else:
        data_is_dict = isinstance(data, dict)
        if data_is_dict:
            data_keys = set(data.keys())
            if 'name' in data_keys:
                data_keys.remove('name')
                data__name = data['name']
                raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'name' in data_keys:
            data_keys.remove('name')
            data__name = data['name']
            environment_name(data__name)
        if 'isolation' in data_keys:
            data_keys.remove('isolation')
            data__isolation = data['isolation']
            if not is_text(data__isolation):
                raise Unfit
            if not (isinstance(data__isolation, str) and data__isolation == 'constraints' or (isinstance(data__isolation, str) and data__isolation == 'enforced')):
                raise Unfit
        if 'purge_development_data' in data_keys:
            data_keys.remove('purge_development_data')
            data__purgedevelopmentdata = data['purge_development_data']
            if not isinstance(data__purgedevelopmentdata, bool):
                raise Unfit
        if 'env' in data_keys:
            data_keys.remove('env')
            data__env = data['env']
            if not is_text(data__env):
                raise Unfit
            if isinstance(data__env, str):
                if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                    raise Unfit
        if 'default' in data_keys:
            data_keys.remove('default')
            data__default = data['default']
            if not is_text(data__default):
                raise Unfit
            if not (isinstance(data__default, str) and data__default == 'production' or (isinstance(data__default, str) and data__default == 'development')):
                raise Unfit
        if data_keys:
            raise Unfit

def environment_name(data: Any) -> None:
    data_any_of_count9 = 0
    if not data_any_of_count9:
        try:
            if not is_text(data):
                raise Unfit
            if not (isinstance(data, str) and data == 'production' or (isinstance(data, str) and data == 'development')):
                raise Unfit
            data_any_of_count9 += 1
        except Unfit:
            pass
    if not data_any_of_count9:
        try:
            if not isinstance(data, dict):
                raise Unfit
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['env']) - data.keys()
                if data__missing_keys:
                    raise Unfit
                data_keys = set(data.keys())
                if 'env' in data_keys:
                    data_keys.remove('env')
                    data__env = data['env']
                    if not is_text(data__env):
                        raise Unfit
                    if isinstance(data__env, str):
                        if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                            raise Unfit
                if 'default' in data_keys:
                    data_keys.remove('default')
                    data__default = data['default']
                    if not is_text(data__default):
                        raise Unfit
                    if not (isinstance(data__default, str) and data__default == 'production' or (isinstance(data__default, str) and data__default == 'development')):
                        raise Unfit
                if data_keys:
                    raise Unfit
            data_any_of_count9 += 1
        except Unfit:
            pass
    if not data_any_of_count9:
        raise Unfit

def database(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'url' in data_keys:
            data_keys.remove('url')
            data__url = data['url']
            data__url_any_of_count10 = 0
            if not data__url_any_of_count10:
                try:
                    if not is_text(data__url):
                        raise Unfit
                    if isinstance(data__url, str):
                        data__url_len = len(data__url)
                        if data__url_len < 1:
                            raise Unfit
                    data__url_any_of_count10 += 1
                except Unfit:
                    pass
            if not data__url_any_of_count10:
                try:
                    secret_reference(data__url)
                    data__url_any_of_count10 += 1
                except Unfit:
                    pass
            if not data__url_any_of_count10:
                raise Unfit
        if 'create' in data_keys:
            data_keys.remove('create')
            data__create = data['create']
            if not isinstance(data__create, bool):
                raise Unfit
        if data_keys:
            raise Unfit

def secret_reference(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_one_of_count11 = 0
    if data_one_of_count11 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['env']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count11 += 1
        except Unfit:
            pass
    if data_one_of_count11 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['file']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count11 += 1
        except Unfit:
            pass
    if data_one_of_count11 < 2:
        try:
            data_is_dict = isinstance(data, dict)
            if data_is_dict:
                data__missing_keys = set(['command']) - data.keys()
                if data__missing_keys:
                    raise Unfit
            data_one_of_count11 += 1
        except Unfit:
            pass
    if data_one_of_count11 != 1:
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        if 'env' in data_keys:
            data_keys.remove('env')
            data__env = data['env']
            if not is_text(data__env):
                raise Unfit
            if isinstance(data__env, str):
                if not matches('^[A-Za-z_][A-Za-z0-9_]*$', data__env):
                    raise Unfit
        if 'file' in data_keys:
            data_keys.remove('file')
            data__file = data['file']
            if not is_text(data__file):
                raise Unfit
            if isinstance(data__file, str):
                data__file_len = len(data__file)
                if data__file_len < 1:
                    raise Unfit
                if data__file_len > 1000:
                    raise Unfit
        if 'command' in data_keys:
            data_keys.remove('command')
            data__command = data['command']
            if not isinstance(data__command, list):
                raise Unfit
            data__command_is_list = isinstance(data__command, list)
            if data__command_is_list:
                data__command_len = len(data__command)
                if data__command_len < 1:
                    raise Unfit
                for data__command_x, data__command_item in enumerate(data__command):
                    if not is_text(data__command_item):
                        raise Unfit
                    if isinstance(data__command_item, str):
                        data__command_item_len = len(data__command_item)
                        if data__command_item_len < 1:
                            raise Unfit
        if 'default' in data_keys:
            data_keys.remove('default')
            data__default = data['default']
            if not is_text(data__default):
                raise Unfit
            if isinstance(data__default, str):
                if not matches('^embedded:', data__default):
                    raise Unfit
        if data_keys:
            raise Unfit

def vars(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        data_len = len(data)
        if data_len != 0:
            data_property_names = True
            for data_key in data:
                try:
                    if isinstance(data_key, str):
                        if not matches('^(?!(vars|instance|labels|environment|true|false|none|True|False|None|and|or|not|if|else|in|is)$)[A-Za-z][A-Za-z0-9_]*$', data_key):
                            raise Unfit
                except Unfit:
                    data_property_names = False
            if not data_property_names:
                raise Unfit

def labels(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data_keys = set(data.keys())
        for data_key in data_keys:
            if data_key not in []:
                data_value = data.get(data_key)
                if not is_text(data_value):
                    raise Unfit
                if isinstance(data_value, str):
                    data_value_len = len(data_value)
                    if data_value_len > 256:
                        raise Unfit
        data_len = len(data)
        if data_len != 0:
            data_property_names = True
            for data_key in data:
                try:
                    if isinstance(data_key, str):
                        if not matches('^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$', data_key):
                            raise Unfit
                except Unfit:
                    data_property_names = False
            if not data_property_names:
                raise Unfit

def version(data: Any) -> None:
    if not (isinstance(data, (int, float)) and (not isinstance(data, bool)) and (data == 1)):
        raise Unfit

def instance(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['version', 'instance']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'version' in data_keys:
            data_keys.remove('version')
            data__version = data['version']
            version(data__version)
        if 'instance' in data_keys:
            data_keys.remove('instance')
            data__instance = data['instance']
            name(data__instance)
        if 'labels' in data_keys:
            data_keys.remove('labels')
            data__labels = data['labels']
            labels(data__labels)
        if 'vars' in data_keys:
            data_keys.remove('vars')
            data__vars = data['vars']
            vars(data__vars)
        if 'database' in data_keys:
            data_keys.remove('database')
            data__database = data['database']
            database(data__database)
        if 'environment' in data_keys:
            data_keys.remove('environment')
            data__environment = data['environment']
            environment(data__environment)
        if 'config' in data_keys:
            data_keys.remove('config')
            data__config = data['config']
            config(data__config)
        if 'admin' in data_keys:
            data_keys.remove('admin')
            data__admin = data['admin']
            admin(data__admin)
            data__admin_is_dict = isinstance(data__admin, dict)
            if data__admin_is_dict:
                data__admin__missing_keys = set(['email']) - data__admin.keys()
                if data__admin__missing_keys:
                    raise Unfit
        if 'queues' in data_keys:
            data_keys.remove('queues')
            data__queues = data['queues']
            queues(data__queues)
        if 'plans' in data_keys:
            data_keys.remove('plans')
            data__plans = data['plans']
            plans(data__plans)
            data__plans_is_dict = isinstance(data__plans, dict)
            if data__plans_is_dict:
                data__plans__missing_keys = set(['source']) - data__plans.keys()
                if data__plans__missing_keys:
                    raise Unfit
            try:
                data__plans_is_dict = isinstance(data__plans, dict)
                if data__plans_is_dict:
                    data__plans__missing_keys = set(['source']) - data__plans.keys()
                    if data__plans__missing_keys:
                        raise Unfit
                    data__plans_keys = set(data__plans.keys())
                    if 'source' in data__plans_keys:
                        data__plans_keys.remove('source')
                        data__plans__source = data__plans['source']
                        if not (isinstance(data__plans__source, str) and data__plans__source == 'manifest'):
                            raise Unfit
            except Unfit:
                data__plans_is_dict = isinstance(data__plans, dict)
                if data__plans_is_dict:
                    data__plans_keys = set(data__plans.keys())
                    if 'items' in data__plans_keys:
                        data__plans_keys.remove('items')
                        data__plans__items = data__plans['items']
                        raise Unfit
            else:
                data__plans_is_dict = isinstance(data__plans, dict)
                if data__plans_is_dict:
                    data__plans__missing_keys = set(['items']) - data__plans.keys()
                    if data__plans__missing_keys:
                        raise Unfit
        if 'expect' in data_keys:
            data_keys.remove('expect')
            data__expect = data['expect']
            expect(data__expect)
        if 'usage' in data_keys:
            data_keys.remove('usage')
            data__usage = data['usage']
            usage(data__usage)
        if 'ignore' in data_keys:
            data_keys.remove('ignore')
            data__ignore = data['ignore']
            ignore_list(data__ignore)
        if 'suspend' in data_keys:
            data_keys.remove('suspend')
            data__suspend = data['suspend']
            suspend(data__suspend)
        if data_keys:
            raise Unfit
